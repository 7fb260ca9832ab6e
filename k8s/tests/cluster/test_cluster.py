"""The Makefile's targets against a real control plane, `minikube` and `helm` alone replaced by programs that do nothing.

In order: each test leaves the cluster as the next one needs it."""

import copy
import json
import os
import subprocess

import pytest
import yaml

from control_plane import ControlPlane
from manifests import ROOT, matches, pod

CRDS = ROOT / "target/k8s/crds"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A control plane with three nodes, volumes, and the operator's definitions."""
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        for number in range(3):
            plane.add_node(f"node-{number}")
        for number in range(6):
            plane.add_volume(f"of-kafka-{number}", "1Gi", ["ReadWriteOnce"])
        plane.add_volume("models", "1Gi", ["ReadWriteMany"])
        plane.add_volume("data", "2Gi", ["ReadWriteMany"])
        plane.kubectl(
            "apply", "--server-side", *(word for path in CRDS.glob("*.yaml") for word in ("-f", path))
        )
        plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        yield plane
    finally:
        plane.close()


@pytest.fixture(scope="module")
def make(cluster, tmp_path_factory):
    """Runs a target."""
    programs = tmp_path_factory.mktemp("bin")
    for name in ("minikube", "helm"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (programs / name).chmod(0o755)

    def run(*arguments, check=True):
        environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CONTEXT", "PROFILE"):
            environment.pop(name, None)
        command = ["make", "--no-print-directory", "WAIT=3m", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def ready(cluster):
    """Pods that are ready, by name, with their identities."""
    pods = cluster.get("pods")
    return {
        one["metadata"]["name"]: one["metadata"]["uid"]
        for one in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", []))
    }


KAFKA = {f"kafka-{kind}-{i}" for kind in ("controller", "broker") for i in range(3)}


def test_kafka_starts_and_starts_again(cluster, make):
    make("start-kafka")
    before = ready(cluster)
    assert KAFKA <= before.keys()
    done = make("start-kafka")
    assert "job.batch/kafka-topics condition met" in done.stdout
    after = ready(cluster)
    assert {name: after[name] for name in KAFKA} == {
        name: before[name] for name in KAFKA
    }, "pods were made anew"


def test_the_rest_starts_and_starts_again(cluster, make):
    for _ in range(2):
        for target in (
            "start-spark-pods",
            "start-detector",
            "start-producer",
            "start-python-producer",
            "setup-monitoring",
        ):
            make(target)
    assert (
        KAFKA | {"spark-master-0", "spark-worker-0", "spark-worker-1", "spark-client-0", "detector-0"}
        <= ready(cluster).keys()
    )
    assert any(name.startswith("producer-") for name in ready(cluster))


def test_all_that_is_rendered_is_there(cluster, objects):
    for thing in objects:
        namespace = ["--namespace", thing["metadata"].get("namespace", "default")]
        kind = (
            f"{thing['kind']}.{thing['apiVersion'].partition('/')[0]}"
            if "/" in thing["apiVersion"]
            else thing["kind"]
        )
        cluster.kubectl(*namespace, "get", kind, thing["metadata"]["name"])


def test_every_claim_is_bound(cluster):
    claims = {
        one["metadata"]["name"]: one["status"]["phase"] for one in cluster.get("persistentvolumeclaims")
    }
    assert len(claims) == 8 and set(claims.values()) == {"Bound"}


def test_monitors_take_the_pods_that_run(cluster):
    pods = cluster.get("pods")
    for monitor in cluster.get("podmonitors", "monitoring"):
        taken = [one for one in pods if matches(monitor["spec"]["selector"], one["metadata"]["labels"])]
        assert taken, monitor["metadata"]["name"]


def test_the_password_of_grafana_stays(cluster, make):
    secret = cluster.get("secrets", "monitoring")
    make("setup-monitoring")
    assert [one["data"] for one in cluster.get("secrets", "monitoring")] == [one["data"] for one in secret]
    assert len(secret) == 1 and len(secret[0]["data"]["admin-password"]) >= 24


def test_status_of_a_cluster_that_is_well(make):
    for _ in range(2):
        done = make("status")
        assert "stuck: none" in done.stdout
        assert "persistentvolumeclaim/models" in done.stdout and "service/kafka" in done.stdout


def test_uploads_and_jobs_reach_the_pod(make):
    """No container runs: they get as far as the node."""
    for target in 2 * ("upload-flows", "submit-spark-job", "train"):
        done = make(target, check=False)
        assert done.returncode != 0
        assert "NotFound" not in done.stderr and "not found" not in done.stderr, done.stderr


def test_what_is_wrong_is_refused(cluster, find):
    def refused(thing, why):
        done = cluster.apply(thing, check=False)
        assert done.returncode != 0 and why in done.stderr, done.stderr

    misspelt = copy.deepcopy(find("StatefulSet", "kafka-broker"))
    misspelt["spec"]["servicename"] = misspelt["spec"].pop("serviceName")
    refused(misspelt, "servicename")

    monitor = copy.deepcopy(find("PodMonitor", "kafka"))
    monitor["spec"]["podMetricsEndpoint"] = monitor["spec"].pop("podMetricsEndpoints")
    refused(monitor, "podMetricsEndpoint")

    template = pod(find("StatefulSet", "detector"))
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": "ids"},
        "spec": copy.deepcopy(template["spec"]),
    }
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(privileged))
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused(privileged, "violates PodSecurity")


def test_a_pod_comes_back_under_its_name(cluster):
    before = ready(cluster)["kafka-broker-1"]
    # Its successor has its name, and kubectl would wait for that one to go.
    cluster.kubectl("--namespace", "ids", "delete", "pod", "kafka-broker-1", "--wait=false")
    cluster.wait("the broker is back", lambda: ready(cluster).get("kafka-broker-1", before) != before)


def evict(cluster, name):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "ids"}}
    path = f"/api/v1/namespaces/ids/pods/{name}/eviction"
    return cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction), check=False)


def test_no_two_brokers_are_evicted_at_a_time(cluster):
    for kind in ("kafka-broker", "kafka-controller"):
        cluster.wait(
            f"{kind} may be disrupted",
            lambda k=kind: any(
                b["metadata"]["name"] == k and b["status"].get("disruptionsAllowed") == 1
                for b in cluster.get("poddisruptionbudgets")
            ),
        )
        # While the nodes stand still the first is not back yet.
        with cluster.halted("kwok"):
            assert evict(cluster, f"{kind}-0").returncode == 0
            second = evict(cluster, f"{kind}-1")
        assert second.returncode != 0 and "disruption budget" in second.stderr, second.stderr
        cluster.wait("all are back", lambda: KAFKA <= ready(cluster).keys())


def test_a_rolling_restart_takes_one_at_a_time(cluster):
    before = ready(cluster)
    cluster.kubectl("--namespace", "ids", "rollout", "restart", "statefulset/kafka-broker")
    brokers = {f"kafka-broker-{i}" for i in range(3)}
    fewest = 3

    def is_done():
        nonlocal fewest
        now = ready(cluster)
        fewest = min(fewest, len(brokers & now.keys()))
        return brokers <= now.keys() and all(now[name] != before[name] for name in brokers)

    cluster.wait("all brokers are new", is_done, seconds=180)
    assert fewest >= 2


def test_detectors_scale_and_applying_again_leaves_their_number(cluster, make):
    cluster.kubectl("--namespace", "ids", "scale", "statefulset/detector", "--replicas", "4")
    cluster.kubectl("--namespace", "ids", "rollout", "status", "--timeout=60s", "statefulset/detector")
    make("start-detector")
    assert {f"detector-{i}" for i in range(4)} <= ready(cluster).keys()


def test_status_explains_what_is_stuck(cluster, make, find):
    # A claim without a volume.
    cluster.kubectl("--namespace", "ids", "scale", "statefulset/kafka-broker", "--replicas", "4")
    # More memory than any node has.
    template = copy.deepcopy(pod(find("StatefulSet", "detector")))
    greedy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "greedy", "namespace": "ids"},
        "spec": template["spec"],
    }
    (container,) = greedy["spec"]["containers"]
    for kind in ("requests", "limits"):
        container["resources"][kind]["memory"] = "640Gi"
    # An image that is not there: what a kubelet would report of it.
    absent = copy.deepcopy(greedy) | {"metadata": {"name": "absent", "namespace": "ids"}}
    absent["spec"]["nodeName"] = "elsewhere"
    cluster.apply(greedy, absent)
    waiting = {"name": "detector", "image": "ids:9.9.9", "imageID": "", "ready": False, "restartCount": 0}
    waiting["state"] = {
        "waiting": {"reason": "ErrImageNeverPull", "message": "Container image is not present"}
    }
    cluster.kubectl(
        "--namespace",
        "ids",
        "patch",
        "pod",
        "absent",
        "--subresource",
        "status",
        "--type",
        "merge",
        "-p",
        json.dumps({"status": {"containerStatuses": [waiting]}}),
    )
    cluster.wait(
        "the scheduler has said no", lambda: "-> no node has that much memory" in make("status").stdout
    )
    said = make("status").stdout
    assert "claim data-kafka-broker-3 has no volume" in said
    assert "kafka-broker-3 is not ready" in said and "-> its claim has no volume" in said
    assert "-> the image is not there: make images" in said
    cluster.kubectl("--namespace", "ids", "delete", "pod", "greedy", "absent", "--force", "--grace-period=0")
    cluster.kubectl("--namespace", "ids", "scale", "statefulset/kafka-broker", "--replicas", "3")


def test_delete_resources_leaves_claims_services_and_data(cluster, make):
    claims = {
        one["metadata"]["name"]: one["metadata"]["uid"] for one in cluster.get("persistentvolumeclaims")
    }
    services = {one["metadata"]["name"] for one in cluster.get("services")}
    for _ in range(2):
        make("delete-resources")
        assert cluster.get("pods") == []
    assert {
        one["metadata"]["name"]: one["metadata"]["uid"] for one in cluster.get("persistentvolumeclaims")
    } == claims
    assert {one["metadata"]["name"] for one in cluster.get("services")} == services
    make("start-kafka")
    assert KAFKA <= ready(cluster).keys()


def test_monitoring_goes_and_goes_again(cluster, make):
    for _ in range(2):
        make("delete-monitoring")
        assert cluster.kubectl("get", "namespace", "monitoring", check=False).returncode != 0
    assert cluster.get("horizontalpodautoscalers") == []


def test_nuke_leaves_nothing(cluster, make):
    assert make("nuke", "SURE=no", check=False).returncode != 0
    done = make("nuke", "SURE=yes")
    assert "minikube delete --profile minikube" in done.stdout
    assert cluster.kubectl("get", "namespace", "ids", check=False).returncode != 0
    make("nuke", "SURE=yes")
