"""The manifests against what they are about: the programs, Kafka's jars, the training, the Makefile."""

import re

import pytest
import yaml

from manifests import ROOT, containers, pod
from test_policy import size

MEBIBYTE = 2**20


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def one(pattern, path):
    """The only group of a pattern in a file."""
    found = re.findall(pattern, text(path), re.MULTILINE)
    assert len(found) == 1, f"{pattern} is {len(found)} times in {path}"
    return found[0]


def properties(config):
    """A properties file."""
    lines = (line for line in config.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="session")
def broker(find):
    data = find("ConfigMap", "kafka")["data"]
    return properties(data["common.properties"]) | properties(data["broker.properties"])


@pytest.fixture(scope="session")
def topics(find):
    """Partitions, and bytes that each of them keeps, by topic."""
    lines = find("ConfigMap", "kafka-topics")["data"]["topics.txt"].splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: (int(partitions), int(keeps) * MEBIBYTE) for name, partitions, keeps in rows}


def environment(container):
    """Names of the variables that a container is given by itself."""
    return {variable["name"] for variable in container.get("env", [])}


def test_versions_are_those_of_the_workspace():
    version = one(r'^version = "(.*)"', "Cargo.toml")
    assert set(re.findall(r"newTag: (.*)", text("k8s/overlays/minikube/kustomization.yaml"))) == {version}
    assert (
        one(r"^STREAM_SPARK := (.*)", "Makefile")
        == set(re.findall(r"ARG SPARK=(.*)", text("k8s/images/Dockerfile"))).pop()
    )
    assert len(set(re.findall(r"ARG SPARK=(.*)", text("k8s/images/Dockerfile")))) == 1
    assert set(
        re.findall(
            r"(org\.apache\.\S+?:[a-z0-9.-]+:[0-9.]+|commons-pool2:[0-9.]+)", text("k8s/images/Dockerfile")
        )
    ) >= {"org.apache.kafka:kafka-clients:3.4.1"}
    for chart in ("kube-prometheus-stack", "prometheus-adapter"):
        named = one(rf"Values of the chart {chart} ([0-9.]+[0-9])", f"k8s/monitoring/values/{chart}.yaml")
        variable = {"kube-prometheus-stack": "PROMETHEUS_STACK", "prometheus-adapter": "PROMETHEUS_ADAPTER"}[
            chart
        ]
        assert one(rf"^{variable} := (.*)", "k8s/cluster.mk") == named


def test_the_dockerfile_takes_the_kafka_of_the_tests():
    assert "COPY reliability/kafka.pom.xml" in text("k8s/images/Dockerfile")


def test_the_connector_is_that_of_the_tests():
    jars = re.findall(
        r"[a-z.]+:[a-z0-9_.-]+:[0-9$(){}A-Z_.]+", one(r"STREAM_JARS := ((?:.*\\\n)*.*)", "Makefile")
    )
    wanted = {jar.replace("$(STREAM_SPARK)", "$SPARK") for jar in jars}
    assert len(wanted) == 4
    for jar in wanted:
        assert jar in text("k8s/images/Dockerfile"), jar


def test_what_the_settings_name_is_read_by_a_program(find):
    sources = "".join(
        path.read_text() for path in [*ROOT.glob("examples/src/**/*.rs"), *ROOT.glob("ids-kafka/src/*.rs")]
    )
    known = set(re.findall(r'env = "([A-Z_]+)"', sources))
    settings = find("ConfigMap", "settings")["data"]
    assert {"BOOTSTRAP_SERVERS", "TOPIC", "MSG_RATE", "BURST_PROB", "BURST_POWER"} <= settings.keys() <= known
    assert float(settings["BURST_POWER"]) >= 1.1


def test_what_pods_set_is_read_by_their_program(workloads):
    sources = "".join(
        path.read_text() for path in [*ROOT.glob("examples/src/**/*.rs"), *ROOT.glob("ids-kafka/src/*.rs")]
    )
    known = set(re.findall(r'env = "([A-Z_]+)"', sources))
    for name in ("detector", "producer"):
        (container,) = pod(workloads[name])["spec"]["containers"]
        assert environment(container) <= known
    for name, script in [
        ("kafka-broker", "node.sh"),
        ("kafka-controller", "node.sh"),
        ("kafka-topics", "topics.sh"),
    ]:
        (container,) = pod(workloads[name])["spec"]["containers"]
        for variable in environment(container):
            assert f"${variable}" in text(f"k8s/base/kafka/{script}") or f"${{{variable}" in text(
                f"k8s/base/kafka/{script}"
            ), variable


def test_clients_start_from_the_brokers(find):
    host, port = find("ConfigMap", "settings")["data"]["BOOTSTRAP_SERVERS"].split(":")
    service = find("Service", host)
    assert int(port) == service["spec"]["ports"][0]["port"]


def test_voters_are_the_controllers(find, workloads, broker):
    replicas = workloads["kafka-controller"]["spec"]["replicas"]
    service = workloads["kafka-controller"]["spec"]["serviceName"]
    wanted = [f"{i}@kafka-controller-{i}.{service}:9093" for i in range(replicas)]
    assert broker["controller.quorum.voters"].split(",") == wanted


def test_the_group_member_is_the_pod(workloads):
    (container,) = pod(workloads["detector"])["spec"]["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "GROUP_INSTANCE_ID")
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert workloads["detector"]["kind"] == "StatefulSet"


def test_pods_are_given_longer_to_end_than_their_program_takes(workloads):
    ends = {
        "detector": int(
            one(r"LONGEST_END: Duration = Duration::from_secs\((\d+)\)", "examples/src/bin/detector.rs")
        ),
        "producer": int(one(r"END_WAIT: Duration = Duration::from_secs\((\d+)\)", "ids-kafka/src/replay.rs")),
    }
    for name, longest in ends.items():
        assert pod(workloads[name])["spec"]["terminationGracePeriodSeconds"] >= longest + 10


def test_a_probe_is_a_path_that_the_program_serves(workloads):
    served = text("ids-kafka/src/admin.rs")
    for name in ("detector", "producer"):
        (container,) = pod(workloads[name])["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert f'"{container[probe]["httpGet"]["path"]}"' in served
        port = int(environment_value(container, "LISTEN").rpartition(":")[2])
        assert container["ports"] == [{"name": "http", "containerPort": port}]


def environment_value(container, name):
    return next(variable["value"] for variable in container["env"] if variable["name"] == name)


def test_what_topics_keep_fits_the_volume(workloads, broker, topics):
    """All partitions have a replica on each of the three brokers."""
    (claim,) = workloads["kafka-broker"]["spec"]["volumeClaimTemplates"]
    volume = size(claim["spec"]["resources"]["requests"]["storage"])
    segment, index = int(broker["log.segment.bytes"]), int(broker["log.index.size.max.bytes"])
    # A partition is cut when it has a segment more than it keeps, and has an active one; each with two indices.
    worst = sum(n * (keeps + 2 * segment + 2 * index) for n, keeps in topics.values())
    # Kafka's own: compacted, so that a few segments of each.
    own = 6 * 2 * 2 * (int(broker["offsets.topic.segment.bytes"])) + int(
        broker["metadata.max.retention.bytes"]
    )
    assert worst + own < 1.2 * volume
    assert sum(n * keeps for n, keeps in topics.values()) + own < volume


def test_topics_are_those_that_the_programs_write_to(topics):
    assert {"{topic}", "{topic}.verdicts", "{topic}.alerts", "{topic}.dlq"} <= topics.keys()
    assert topics["{topic}"][0] == 6
    job = text("examples/spark_job.py")
    for suffix in (".verdicts.spark", ".dlq.spark"):
        assert f"}}{suffix}" in job and f"{{topic}}{suffix}" in topics
    # A verdict goes to the partition of its flow.
    assert topics["{topic}.verdicts"][0] == topics["{topic}.verdicts.spark"][0] == 6


def test_there_are_no_more_detectors_than_partitions(find, topics):
    assert find("HorizontalPodAutoscaler", "detector")["spec"]["maxReplicas"] == topics["{topic}"][0]


def test_replicas_can_be_had(workloads, broker, find):
    brokers = workloads["kafka-broker"]["spec"]["replicas"]
    for name in (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
    ):
        assert int(broker[name]) == brokers
    assert int(broker["min.insync.replicas"]) == brokers - 1
    # Controllers decide it: that of a broker alone would be passed over.
    common = properties(find("ConfigMap", "kafka")["data"]["common.properties"])
    assert common["min.insync.replicas"] == broker["min.insync.replicas"]
    (container,) = pod(workloads["kafka-topics"])["spec"]["containers"]
    assert environment_value(container, "BROKERS") == str(brokers)


def heap(options):
    return int(re.search(r"-Xmx(\d+)m", options).group(1)) * MEBIBYTE


def test_a_heap_leaves_room_for_what_is_beside_it(workloads):
    for name in ("kafka-controller", "kafka-broker"):
        (container,) = pod(workloads[name])["spec"]["containers"]
        assert 2 * heap(environment_value(container, "JVM_OPTIONS")) <= size(
            container["resources"]["limits"]["memory"]
        )


def test_the_model_that_serves_is_the_one_that_is_published(workloads):
    detector = workloads["detector"]
    (container,) = pod(detector)["spec"]["containers"]
    model = environment_value(container, "MODEL")
    assert containers(detector)[0]["command"][-1] == model
    assert f'Path("{model}")' in text("k8s/jobs/train_model.py")
    assert environment_value(container, "WATCH_MODEL") == "true"
    for workload in ("detector", "spark-client", "spark-worker"):
        volumes = {
            volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName")
            for volume in pod(workloads[workload])["spec"]["volumes"]
        }
        mounts = {
            mount["mountPath"]: volumes[mount["name"]]
            for mount in pod(workloads[workload])["spec"]["containers"][0]["volumeMounts"]
        }
        assert mounts["/models"] == "models"


def test_commands_are_in_the_image(workloads):
    dockerfile = text("k8s/images/Dockerfile")
    for name, workload in workloads.items():
        for container in containers(workload):
            command, image = container["command"][0], container["image"].partition(":")[0]
            if image == "ids":
                assert f"target/release/{command}" in dockerfile, name
            elif image == "ids-spark" and command != "spark-class":
                assert f"k8s/jobs/{command}" in dockerfile, name


def test_kustomizations_hold_every_file():
    for kustomization in ROOT.glob("k8s/**/kustomization.yaml"):
        named = str(yaml.safe_load(kustomization.read_text()))
        for path in kustomization.parent.iterdir():
            if (
                path.suffix in (".yaml", ".properties", ".sh", ".txt", ".env", ".conf")
                and path.name != "kustomization.yaml"
            ):
                assert path.name in named or path.name == "rules_test.yaml", path


def test_spark_finds_its_master(find, workloads):
    service, (container,) = (
        find("Service", "spark-master"),
        pod(workloads["spark-master"])["spec"]["containers"],
    )
    port = container["args"][container["args"].index("--port") + 1]
    assert {"name": "spark", "containerPort": int(port)} in container["ports"]
    assert int(port) in [one["port"] for one in service["spec"]["ports"]]
    url = f"spark://spark-master:{port}"
    (worker,) = pod(workloads["spark-worker"])["spec"]["containers"]
    assert worker["args"][-1] == url
    defaults = dict(
        line.split()
        for line in find("ConfigMap", "spark")["data"]["spark-defaults.conf"].splitlines()
        if line[:1] not in "#"
    )
    assert defaults["spark.master"] == url


def test_what_is_scraped_is_where_metrics_are(find, workloads):
    sinks = properties(find("ConfigMap", "spark")["data"]["metrics.properties"])
    path = {
        role: sinks.get(f"{role}.sink.prometheusServlet.path", sinks["*.sink.prometheusServlet.path"])
        for role in ("master", "worker")
    }
    for role, wanted in path.items():
        (endpoint,) = find("PodMonitor", f"spark-{role}")["spec"]["podMetricsEndpoints"]
        (container,) = pod(workloads[f"spark-{role}"])["spec"]["containers"]
        # Without the slash Spark answers that it is to be asked with it.
        assert endpoint["path"] == container["readinessProbe"]["httpGet"]["path"] == f"{wanted}/"
    assert (
        find("PodMonitor", "spark-client")["spec"]["podMetricsEndpoints"][0]["path"] == f"{path['worker']}/"
    )
    exporter = int(one(r"=\$POD_IP:(\d+):", "k8s/base/kafka/node.sh"))
    for name in ("kafka-controller", "kafka-broker"):
        (container,) = pod(workloads[name])["spec"]["containers"]
        assert {"name": "metrics", "containerPort": exporter} in container["ports"]


def test_configurations_are_where_they_are_read(workloads):
    places = {"kafka-controller": "node.sh", "kafka-broker": "node.sh", "kafka-topics": "topics.sh"}
    wanted = {name: one(r"\$\{CONFIG:-(.*)\}", f"k8s/base/kafka/{script}") for name, script in places.items()}
    spark = one(r"SPARK_CONF_DIR=(\S+)", "k8s/images/Dockerfile")
    wanted |= {name: spark for name in ("spark-master", "spark-worker", "spark-client")}
    for name, path in wanted.items():
        (container,) = pod(workloads[name])["spec"]["containers"]
        assert path in [
            one["mountPath"] for one in container["volumeMounts"] if one["name"] == "config"
        ], name
