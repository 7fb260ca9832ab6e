#!/usr/bin/env bash
# Copies flows to the volume that Spark and the producer read: a file, or else the synthetic ones.
set -euo pipefail

file=${1:-testdata/synthetic-unsw-nb15.csv}
[ $# -gt 0 ] || echo "no FILE=: these are the synthetic flows, $file"
[ -f "$file" ] || { echo "there is no file $file" >&2; exit 1; }

kubectl=(kubectl --context "$CONTEXT" --namespace ids)
"${kubectl[@]}" get pod spark-client-0 > /dev/null || { echo "flows are uploaded through Spark's client: make start-spark-pods" >&2; exit 1; }
# Renamed when it is whole: nobody reads half a file.
"${kubectl[@]}" cp --retries 3 "$file" spark-client-0:/data/flows.csv.part
"${kubectl[@]}" exec spark-client-0 -- mv /data/flows.csv.part /data/flows.csv
echo "$(basename "$file") is /data/flows.csv: \`make train\` takes it from now on."
echo "To replay it, set FLOWS=/data/flows.csv in k8s/base/settings.env and \`make start-producer\`."
