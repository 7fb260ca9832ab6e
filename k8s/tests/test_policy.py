"""What every pod must be: no root, no privileges, limits, probes, a pinned image, no token, a network policy."""

import re

import pytest

from manifests import containers, matches, pod

QUANTITY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size(text):
    """Bytes of a quantity such as 1Gi."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", text).groups()
    return int(number) * QUANTITY[unit]


def faults(workload):
    """What is wrong with the pods of a workload."""
    spec = pod(workload)["spec"]
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "it may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "it has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "it has a token"
    if spec.get("serviceAccountName") in (None, "default"):
        yield "it has no service account of its own"
    if spec.get("enableServiceLinks") is not False:
        yield "services become variables of its environment"
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "it shares with its host"
    if any("hostPath" in volume for volume in spec.get("volumes", [])):
        yield "it mounts a path of its host"
    if any(
        "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"] for volume in spec.get("volumes", [])
    ):
        yield "an emptyDir without a limit"
    for container in containers(workload):
        name, own = container["name"], container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its root file system"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} has capabilities"
        if not re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+\.\d+", container["image"]):
            yield f"{name}: image {container['image']} has no version"
        if container.get("imagePullPolicy") != "Never":
            yield f"{name}: an image of that name may be pulled from elsewhere"
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            if not {"cpu", "memory"} <= resources.get(kind, {}).keys():
                yield f"{name} has no {kind}"
        if any("secret" in str(variable).lower() for variable in container.get("env", [])):
            yield f"{name} has a secret in its environment"
    if workload["kind"] != "Job":
        for container in spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                if probe not in container and probe != "startupProbe":
                    yield f"{container['name']} has no {probe}"
                asked = container.get(probe, {})
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                if port and port not in ports:
                    yield f"{container['name']}: {probe} asks port {port}, which it does not have"


def test_pods_are_as_they_must_be(workloads):
    found = {name: list(faults(workload)) for name, workload in workloads.items()}
    assert found == {name: [] for name in workloads}
    assert len(workloads) == 8


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "it may run as root"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "it has a token"),
        (lambda spec: spec["containers"][0].pop("readinessProbe"), "detector has no readinessProbe"),
        (
            lambda spec: spec["containers"][0].update(image="ids:latest"),
            "detector: image ids:latest has no version",
        ),
        (lambda spec: spec["containers"][0]["resources"].pop("limits"), "detector has no limits"),
        (lambda spec: spec["initContainers"][0].pop("securityContext"), "model has capabilities"),
    ],
)
def test_a_fault_is_found(workloads, change, fault):
    import copy

    workload = copy.deepcopy(workloads["detector"])
    change(pod(workload)["spec"])
    assert fault in list(faults(workload))


def test_the_namespace_is_restricted(find):
    labels = find("Namespace", "ids")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_service_accounts_are_there_and_have_no_token(objects, workloads):
    accounts = [thing for thing in objects if thing["kind"] == "ServiceAccount"]
    names = {account["metadata"]["name"] for account in accounts}
    assert names == {pod(workload)["spec"]["serviceAccountName"] for workload in workloads.values()}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_nothing_is_reachable_from_outside(objects):
    for thing in objects:
        assert thing["kind"] not in ("Ingress", "Gateway", "Secret")
        if thing["kind"] == "Service":
            assert thing["spec"].get("type", "ClusterIP") == "ClusterIP", thing["metadata"]["name"]
            assert "externalIPs" not in thing["spec"]


def test_all_objects_carry_the_common_labels(objects):
    for thing in objects:
        labels = thing["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "ids"
        assert labels["app.kubernetes.io/component"] in (
            "common",
            "kafka",
            "detector",
            "producer",
            "spark",
            "monitoring",
        )
        if thing["kind"] in ("StatefulSet", "Deployment", "Job"):
            assert labels.items() <= pod(thing)["metadata"]["labels"].items()


def test_selectors_take_the_pods_they_are_meant_for(objects, workloads):
    labels = {name: pod(workload)["metadata"]["labels"] for name, workload in workloads.items()}
    for thing in objects:
        name, spec = thing["metadata"]["name"], thing.get("spec", {})
        if thing["kind"] in ("StatefulSet", "Deployment"):
            assert matches(spec["selector"], labels[name])
        elif thing["kind"] == "Service":
            taken = [
                workload
                for workload, own in labels.items()
                if matches({"matchLabels": spec["selector"]}, own)
            ]
            assert len(taken) == 1, f"service {name} takes {taken}"
            ports = {port["name"] for port in containers(workloads[taken[0]])[-1]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports
        elif thing["kind"] == "PodDisruptionBudget":
            taken = [workload for workload, own in labels.items() if matches(spec["selector"], own)]
            assert taken == [name] and spec["maxUnavailable"] == 1
        elif thing["kind"] == "PodMonitor":
            taken = [
                workload
                for workload, own in labels.items()
                if matches(spec["selector"], own) and workload != "kafka-topics"
            ]
            assert taken, f"monitor {name} takes no pod"
            for workload in taken:
                ports = {port["name"] for port in containers(workloads[workload])[-1]["ports"]}
                assert {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]} <= ports
        elif thing["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            assert workloads[target["name"]]["kind"] == target["kind"]


def test_a_stateful_set_has_its_service(objects, workloads):
    headless = {
        thing["metadata"]["name"]
        for thing in objects
        if thing["kind"] == "Service" and thing["spec"].get("clusterIP") == "None"
    }
    for name, workload in workloads.items():
        if workload["kind"] == "StatefulSet":
            assert workload["spec"]["serviceName"] in headless, name


def test_claims_are_what_was_promised(objects, workloads):
    for name in ("kafka-controller", "kafka-broker"):
        (claim,) = workloads[name]["spec"]["volumeClaimTemplates"]
        assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
        assert workloads[name]["spec"]["replicas"] == 3
    claims = {thing["metadata"]["name"] for thing in objects if thing["kind"] == "PersistentVolumeClaim"}
    for name, workload in workloads.items():
        for volume in pod(workload)["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name


def test_the_whole_fits_minikube(workloads):
    """What all pods ask for, beside monitoring, of the CPUS=4 and MEMORY=12g that start-minikube takes."""
    memory = cpu = 0
    for workload in workloads.values():
        n = workload["spec"].get("replicas", 1)
        requests = pod(workload)["spec"]["containers"][0]["resources"]["requests"]
        memory += n * size(requests["memory"])
        cpu += n * (
            int(requests["cpu"][:-1]) if requests["cpu"].endswith("m") else 1000 * int(requests["cpu"])
        )
    assert memory <= 9 * 2**30
    assert cpu <= 2_500
