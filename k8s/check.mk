# What is checked of the cluster without one: see the table in docs/minikube.md.

K8S_VENV := target/k8s-venv
# Definitions of the kinds that monitoring takes, of the operator that the chart installs.
OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
CRDS := target/k8s/crds
# Programs that are on few machines are built, once.
K8S_TOOLS := $(if $(shell command -v kubectl),,$(TOOLS)/bin/kustomize) $(if $(shell command -v promtool),,$(TOOLS)/bin/promtool)
GO := GOPATH=$(abspath target/go) GOBIN=$(abspath $(TOOLS)/bin) GOFLAGS=-modcacherw go

.PHONY: k8s-check
k8s-check: $(K8S_VENV)/bin/python $(CRDS) $(K8S_TOOLS) ## Check manifests, policies, alert rules, dashboards, Dockerfiles and the targets of the cluster, without one
	$(K8S_VENV)/bin/python -m pytest -q -p no:cacheprovider k8s/tests

$(K8S_VENV)/bin/python: k8s/requirements-test.txt
	@command -v python3 > /dev/null || { echo "missing: Python 3"; exit 1; }
	python3 -m venv $(K8S_VENV)
	$(K8S_VENV)/bin/pip install --quiet -r $<
	@touch $@

$(CRDS): k8s/check.mk | go
	rm -rf $@.part && mkdir -p $@.part
	cp "$$($(GO) mod download -json $(OPERATOR) | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p')"/example/prometheus-operator-crd/*.yaml $@.part
	rm -rf $@ && mv $@.part $@

$(TOOLS)/bin/kustomize: | go
	$(GO) install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1

$(TOOLS)/bin/promtool: | go
	$(GO) install github.com/prometheus/prometheus/cmd/promtool@v0.316.0

.PHONY: go
go:
	@command -v go > /dev/null || { echo "missing: Go 1.26, which gets and builds what the cluster is checked with"; exit 1; }
