# The cluster: from nothing to Grafana. docs/minikube.md goes through it; each target can run again.

# Minikube's profile, and the name that kubectl knows its cluster by.
PROFILE ?= minikube
CONTEXT ?= $(PROFILE)
CPUS ?= 4
MEMORY ?= 12g
# How long a rollout may take.
WAIT ?= 10m
# The versions that this is written for.
KUBERNETES := v1.34.4
PROMETHEUS_STACK := 77.11.1
PROMETHEUS_ADAPTER := 5.3.0
IMAGE_TAG := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

KUBECTL := kubectl --context $(CONTEXT)
IN_IDS := $(KUBECTL) --namespace ids
HELM := helm --kube-context $(CONTEXT) --namespace monitoring
# Of the whole, what a part needs: Kafka's objects are those of the components `common` and `kafka`.
apply = $(KUBECTL) apply --server-side --force-conflicts -k k8s/overlays/minikube -l 'app.kubernetes.io/component in (common,$(1))'
rollout = $(IN_IDS) rollout status --timeout $(WAIT) $(1)

.PHONY: up
up: ## All of it, in order: from nothing to a monitored cluster
	@for target in start-minikube images start-kafka start-spark-pods setup-monitoring start-detector start-producer status; do \
	    echo "== make $$target"; $(MAKE) --no-print-directory $$target; \
	done

.PHONY: start-minikube
start-minikube: need-minikube ## Start Minikube, with a network that enforces policies (PROFILE, CPUS=4, MEMORY=12g)
	minikube start --profile $(PROFILE) --cpus $(CPUS) --memory $(MEMORY) --cni calico --kubernetes-version $(KUBERNETES) --wait all

.PHONY: images
images: need-minikube image-context ## Build the images ids, ids-kafka and ids-spark in Minikube
	@for image in ids ids-kafka ids-spark; do \
	    echo "== $$image:$(IMAGE_TAG)"; \
	    minikube image build --profile $(PROFILE) --tag $$image:$(IMAGE_TAG) --file k8s/images/Dockerfile --build-opt target=$$image target/image; \
	done

.PHONY: start-kafka
start-kafka: need-cluster ## Start Kafka, 3 controllers and 3 brokers, and create the topics
	@# A job cannot be changed: it is made anew, and leaves the topics that are there.
	$(IN_IDS) delete job kafka-topics --ignore-not-found
	$(call apply,kafka)
	$(call rollout,statefulset/kafka-controller)
	$(call rollout,statefulset/kafka-broker)
	$(IN_IDS) wait --for condition=Complete --timeout $(WAIT) job/kafka-topics

.PHONY: start-spark-pods
start-spark-pods: need-cluster ## Start Spark: a master, two workers, and a client to run drivers in
	$(call apply,spark)
	$(call rollout,statefulset/spark-master)
	$(call rollout,statefulset/spark-worker)
	$(call rollout,statefulset/spark-client)

.PHONY: start-producer start-python-producer
start-producer: need-cluster ## Start the producer: flows at the rate that k8s/base/settings.env says
	$(call apply,producer)
	$(call rollout,deployment/producer)

start-python-producer: start-producer ## The same, by its old name

.PHONY: start-detector
start-detector: need-cluster ## Start the detectors
	$(call apply,detector)
	$(call rollout,statefulset/detector)

.PHONY: upload-flows
upload-flows: need-cluster ## Upload flows to train on and to replay (FILE=flows.csv, else the synthetic ones)
	CONTEXT=$(CONTEXT) k8s/scripts/upload-flows.sh $(FILE)

.PHONY: train
train: need-cluster ## Train a model on the Spark pods and publish it to the detectors (ARGS="--model unsw-nb15-small")
	$(IN_IDS) exec spark-client-0 -- train-model $(ARGS)

.PHONY: submit-spark-job
submit-spark-job: need-cluster ## Start the streaming job inside of Spark
	$(IN_IDS) exec spark-client-0 -- submit-spark-job $(ARGS)

.PHONY: setup-monitoring
setup-monitoring: need-cluster need-helm ## Install Prometheus and Grafana, with alert rules, dashboards and scaling on lag
	CONTEXT=$(CONTEXT) k8s/scripts/grafana-password.sh
	helm repo add --force-update prometheus-community https://prometheus-community.github.io/helm-charts
	$(HELM) upgrade --install monitoring prometheus-community/kube-prometheus-stack --version $(PROMETHEUS_STACK) \
	    --values k8s/monitoring/values/kube-prometheus-stack.yaml --wait --timeout $(WAIT)
	$(HELM) upgrade --install adapter prometheus-community/prometheus-adapter --version $(PROMETHEUS_ADAPTER) \
	    --values k8s/monitoring/values/prometheus-adapter.yaml --wait --timeout $(WAIT)
	$(call apply,common)
	$(KUBECTL) apply --server-side --force-conflicts -k k8s/monitoring

.PHONY: access-grafana
access-grafana: need-cluster ## Open Grafana at http://127.0.0.1:3000 until Ctrl-C, and say the password
	@echo "http://127.0.0.1:3000  user admin, password $$($(KUBECTL) --namespace monitoring get secret grafana-admin -o go-template='{{ index .data "admin-password" | base64decode }}')"
	$(KUBECTL) --namespace monitoring port-forward --address 127.0.0.1 service/grafana 3000:80

.PHONY: access-prometheus
access-prometheus: need-cluster ## Open Prometheus at http://127.0.0.1:9090 until Ctrl-C
	@echo "http://127.0.0.1:9090"
	$(KUBECTL) --namespace monitoring port-forward --address 127.0.0.1 service/prometheus-operated 9090:9090

.PHONY: status
status: need-cluster ## Pods, volumes and services, and why a pod is stuck
	@$(IN_IDS) get pods,persistentvolumeclaims,services
	@$(IN_IDS) get pods,events,persistentvolumeclaims -o json | python3 k8s/scripts/stuck.py

# Of which part `make logs` shows the logs.
OF ?= detector
.PHONY: logs
logs: need-cluster ## Follow the logs of a part (OF=detector, kafka, producer, spark)
	$(IN_IDS) logs --selector app.kubernetes.io/component=$(OF) --all-containers --prefix --tail 50 --follow --max-log-requests 20

.PHONY: delete-resources
delete-resources: need-cluster ## Delete the pods; volumes, services and data stay
	$(IN_IDS) delete statefulsets,deployments,jobs --selector app.kubernetes.io/part-of=ids --ignore-not-found --cascade=foreground --timeout $(WAIT)

.PHONY: delete-monitoring
delete-monitoring: need-cluster need-helm ## Delete Prometheus and Grafana, and what they know
	$(IN_IDS) delete horizontalpodautoscaler detector --ignore-not-found
	$(HELM) uninstall adapter --ignore-not-found --wait --timeout $(WAIT)
	$(HELM) uninstall monitoring --ignore-not-found --wait --timeout $(WAIT)
	$(KUBECTL) delete namespace monitoring --ignore-not-found --timeout $(WAIT)

.PHONY: nuke
nuke: need-cluster need-helm need-minikube ## Delete everything: data, monitoring, Minikube's cluster itself (asks first; SURE=yes does not)
	@[ "$(SURE)" = yes ] || { read -r -p "All of cluster $(CONTEXT) goes, with its data. Type yes: " answer; [ "$$answer" = yes ]; } || { echo "nothing was deleted"; exit 1; }
	$(MAKE) --no-print-directory delete-monitoring
	$(KUBECTL) delete namespace ids --ignore-not-found --timeout $(WAIT)
	minikube delete --profile $(PROFILE)

# --- What the above needs ---

.PHONY: image-context
image-context:
	@# Of what git knows, and not of gigabytes of target/.
	rm -rf target/image && mkdir -p target/image
	git ls-files -z --cached | xargs -0 cp --parents -t target/image

.PHONY: need-cluster need-kubectl need-helm need-minikube
need-cluster: need-kubectl
	@$(KUBECTL) version --output json > /dev/null || { echo "there is no cluster $(CONTEXT): make start-minikube"; exit 1; }

need-kubectl need-helm need-minikube: need-%:
	@command -v $* > /dev/null || { echo "missing: $*, see docs/minikube.md"; exit 1; }
