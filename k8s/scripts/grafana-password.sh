#!/usr/bin/env bash
# Makes a password for Grafana, unless there is one.
set -euo pipefail

kubectl=(kubectl --context "$CONTEXT")
"${kubectl[@]}" apply --server-side -f k8s/monitoring/namespace.yaml
if [ -z "$("${kubectl[@]}" --namespace monitoring get secret grafana-admin --ignore-not-found --output name)" ]; then
    # By a file descriptor: the arguments of a process can be seen by all.
    "${kubectl[@]}" --namespace monitoring create secret generic grafana-admin --from-literal admin-user=admin \
        --from-file admin-password=<(head -c 18 /dev/urandom | base64 | tr -d '\n')
fi
