# What is checked of the cluster without one: see the table in docs/minikube.md.

K8S_VENV := target/k8s-venv
# Definitions of the kinds that monitoring takes, of the operator that the chart installs.
OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
CRDS := target/k8s/crds
# Programs that are on few machines are built, once.
K8S_TOOLS := $(if $(shell command -v kubectl),,$(TOOLS)/bin/kustomize) $(if $(shell command -v promtool),,$(TOOLS)/bin/promtool)
PROMETHEUS := $(if $(shell command -v prometheus),,$(TOOLS)/bin/prometheus)
GO := GOPATH=$(abspath target/go) GOBIN=$(abspath $(TOOLS)/bin) GOFLAGS=-modcacherw go

.PHONY: k8s-check
k8s-check: $(K8S_VENV)/bin/python $(CRDS) $(K8S_TOOLS) ## Check manifests, policies, alert rules, dashboards, Dockerfiles and the targets of the cluster, without one
	$(K8S_VENV)/bin/python -m pytest -q -p no:cacheprovider --rootdir . --ignore k8s/tests/loopback --ignore k8s/tests/cluster --ignore k8s/tests/images k8s/tests

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

$(TOOLS)/bin/promtool $(TOOLS)/bin/prometheus: | go
	$(GO) install github.com/prometheus/prometheus/cmd/$(@F)@v0.316.0

.PHONY: go
go:
	@command -v go > /dev/null || { echo "missing: Go 1.26, which gets and builds what the cluster is checked with"; exit 1; }

# The agent that tells Prometheus of Kafka, of the version that the image has.
JMX := target/jmx/jmx_prometheus_javaagent.jar

.PHONY: k8s-loopback
k8s-loopback: $(K8S_VENV)/bin/python $(KAFKA) $(JMX) $(K8S_TOOLS) $(PROMETHEUS) target/spark-$(STREAM_SPARK)/bin/python $(IDS) ## Run what the pods run on loopback: six nodes of Kafka, the topics' job, producer, detectors, Prometheus, Spark and a training
	$(K8S_VENV)/bin/python -m pytest -q -p no:cacheprovider --rootdir . k8s/tests/loopback

$(JMX): k8s/images/Dockerfile
	@command -v mvn > /dev/null || { echo "missing: Maven, which gets Kafka's jars"; exit 1; }
	mvn -B -q $(MAVEN_PLUGIN):copy -Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:$$(sed -n 's/^ARG JMX_AGENT=//p' $<) \
	    -DoutputDirectory=$(abspath $(@D)) -Dmdep.stripVersion=true
	@touch $@

.PHONY: images-check
images-check: $(K8S_VENV)/bin/python image-context $(K8S_TOOLS) ## Build the images without an engine and run the pods from them, as root: Kafka, the detector, Spark's training and its job
	@if [ "$$(id -u)" != 0 ] || ! command -v buildah > /dev/null || ! command -v debootstrap > /dev/null; then \
	    echo "missing: root, buildah and debootstrap, which build images without an engine"; \
	    echo "  Debian, Ubuntu: apt install buildah debootstrap, and run this as root"; exit 1; \
	fi
	k8s/tests/images/build.sh target/image ids ids-kafka ids-spark
	$(K8S_VENV)/bin/python -m pytest -q -x -p no:cacheprovider --rootdir . -o pythonpath=k8s/tests/loopback k8s/tests/images

# Binaries of a control plane are built once.
CONTROL_PLANE := target/control-plane/bin/kwok

.PHONY: cluster-test
cluster-test: $(K8S_VENV)/bin/python $(CRDS) $(CONTROL_PLANE) ## Run the targets of the cluster against a real control plane on loopback, whose nodes are played
	@command -v kubectl > /dev/null || { echo "missing: kubectl"; exit 1; }
	@command -v openssl > /dev/null || { echo "missing: openssl"; exit 1; }
	$(K8S_VENV)/bin/python -m pytest -q -x -p no:cacheprovider --rootdir . k8s/tests/cluster

$(CONTROL_PLANE): k8s/tests/cluster/build.sh | go
	GOPATH=$(abspath target/go) GOFLAGS=-modcacherw $< target/control-plane $(KUBERNETES)
	@touch $@
