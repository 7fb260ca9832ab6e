"""The Makefile's targets against programs that only note how they are called."""

import os
import re
import subprocess
import sys

import pytest

from manifests import ROOT, matches, pod

RECORDER = """#!/bin/sh
printf '%s' "$(basename "$0")" >> "$CALLS"
for argument; do printf ' %s' "$argument" >> "$CALLS"; done
echo >> "$CALLS"
case "$(basename "$0") $*" in
*" get pods,events,persistentvolumeclaims -o json"*) echo '{"items": []}' ;;
*"get secret grafana-admin --ignore-not-found"*) printf '%s' "$SECRET" ;;
*"get secret grafana-admin -o"*) echo a-password ;;
*"$FAILS"*) [ -z "$FAILS" ] || { echo "refused" >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs a target; its outcome, and the calls that it made."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name in ("kubectl", "minikube", "helm"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)

    def run(*arguments, without=(), fails="", secret="", stdin=""):
        calls.write_text("")
        for name in without:
            (programs / name).unlink()
        # Nothing of a machine that has a kubectl of its own.
        path = f"{programs}:{system_tools(tmp_path)}"
        environment = {**os.environ, "PATH": path, "CALLS": str(calls), "FAILS": fails, "SECRET": secret}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CONTEXT", "PROFILE"):
            environment.pop(name, None)
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done, calls.read_text().splitlines()

    return run


def system_tools(directory):
    """A directory of the usual programs, without those that are recorded."""
    tools = directory / "usual"
    if not tools.exists():
        tools.mkdir()
        for (
            name
        ) in "make bash sh basename dirname sed head cp rm mkdir xargs git tr base64 grep awk cat cut sort".split():
            for place in os.environ["PATH"].split(":"):
                if os.path.exists(f"{place}/{name}"):
                    (tools / name).symlink_to(f"{place}/{name}")
                    break
        (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    return tools


IDS = "kubectl --context minikube --namespace ids"
VERSION = "kubectl --context minikube version --output json"


def apply(component):
    return (
        "kubectl --context minikube apply --server-side --force-conflicts -k k8s/overlays/minikube "
        f"-l app.kubernetes.io/component in (common,{component})"
    )


def rollout(what):
    return f"{IDS} rollout status --timeout 10m {what}"


EXPECTED = {
    "start-kafka": [
        VERSION,
        f"{IDS} delete job kafka-topics --ignore-not-found",
        apply("kafka"),
        rollout("statefulset/kafka-controller"),
        rollout("statefulset/kafka-broker"),
        f"{IDS} wait --for condition=Complete --timeout 10m job/kafka-topics",
    ],
    "start-spark-pods": [
        VERSION,
        apply("spark"),
        rollout("statefulset/spark-master"),
        rollout("statefulset/spark-worker"),
        rollout("statefulset/spark-client"),
    ],
    "start-producer": [VERSION, apply("producer"), rollout("deployment/producer")],
    "start-python-producer": [VERSION, apply("producer"), rollout("deployment/producer")],
    "start-detector": [VERSION, apply("detector"), rollout("statefulset/detector")],
    "train": [VERSION, f"{IDS} exec spark-client-0 -- train-model"],
    "submit-spark-job": [VERSION, f"{IDS} exec spark-client-0 -- submit-spark-job"],
    "start-minikube": [
        "minikube start --profile minikube --cpus 4 --memory 12g --cni calico --kubernetes-version v1.34.4 --wait all"
    ],
    "status": [
        VERSION,
        f"{IDS} get pods,persistentvolumeclaims,services",
        f"{IDS} get pods,events,persistentvolumeclaims -o json",
    ],
    "logs": [
        VERSION,
        f"{IDS} logs --selector app.kubernetes.io/component=detector --all-containers --prefix --tail 50 --follow "
        "--max-log-requests 20",
    ],
    "upload-flows": [
        VERSION,
        f"{IDS} get pod spark-client-0",
        f"{IDS} cp --retries 3 testdata/synthetic-unsw-nb15.csv spark-client-0:/data/flows.csv.part",
        f"{IDS} exec spark-client-0 -- mv /data/flows.csv.part /data/flows.csv",
    ],
    "delete-resources": [
        VERSION,
        f"{IDS} delete statefulsets,deployments,jobs --selector app.kubernetes.io/part-of=ids --ignore-not-found "
        "--cascade=foreground --timeout 10m",
    ],
    "delete-monitoring": [
        VERSION,
        f"{IDS} delete horizontalpodautoscaler detector --ignore-not-found",
        "helm --kube-context minikube --namespace monitoring uninstall adapter --ignore-not-found --wait --timeout 10m",
        "helm --kube-context minikube --namespace monitoring uninstall monitoring --ignore-not-found --wait --timeout 10m",
        "kubectl --context minikube delete namespace monitoring --ignore-not-found --timeout 10m",
    ],
    "access-grafana": [
        VERSION,
        "kubectl --context minikube --namespace monitoring get secret grafana-admin -o "
        'go-template={{ index .data "admin-password" | base64decode }}',
        "kubectl --context minikube --namespace monitoring port-forward --address 127.0.0.1 service/grafana 3000:80",
    ],
    "access-prometheus": [
        VERSION,
        "kubectl --context minikube --namespace monitoring port-forward --address 127.0.0.1 "
        "service/prometheus-operated 9090:9090",
    ],
}


@pytest.mark.parametrize("target", EXPECTED)
def test_a_target_makes_these_calls_and_can_run_again(make, target):
    for _ in range(2):
        done, calls = make(target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert calls == EXPECTED[target]


def test_setup_monitoring_installs_named_versions_and_keeps_a_password(make):
    done, calls = make("setup-monitoring")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum("create secret generic grafana-admin" in call for call in calls) == 1
    installs = [call for call in calls if " upgrade --install " in call]
    assert [re.search(r"community/(\S+) --version ([0-9.]+)", call).groups() for call in installs] == [
        ("kube-prometheus-stack", "77.11.1"),
        ("prometheus-adapter", "5.3.0"),
    ]
    assert all(" --wait --timeout 10m" in call for call in installs)
    assert calls[-1] == "kubectl --context minikube apply --server-side --force-conflicts -k k8s/monitoring"
    _, calls = make("setup-monitoring", secret="secret/grafana-admin")
    assert not any("create secret" in call for call in calls)


def test_no_password_is_in_a_command(make):
    _, calls = make("setup-monitoring")
    (create,) = (call for call in calls if "create secret" in call)
    assert "admin-password=/dev/fd/" in create


def test_images_are_built_of_what_git_knows(make):
    done, calls = make("images")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [call.split()[6] for call in calls] == ["ids:0.1.0", "ids-kafka:0.1.0", "ids-spark:0.1.0"]
    assert all(call.endswith("target/image") and "--file k8s/images/Dockerfile" in call for call in calls)
    assert (ROOT / "target/image/Cargo.toml").exists() and not (ROOT / "target/image/target").exists()


def test_up_does_all_in_order(make):
    done, calls = make("up")
    assert done.returncode == 0, done.stdout + done.stderr
    order = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("== make")]
    assert (
        order
        == "start-minikube images start-kafka start-spark-pods setup-monitoring start-detector start-producer status".split()
    )
    assert calls.index(apply("kafka")) < calls.index(apply("detector")) < calls.index(apply("producer"))


def test_up_stops_at_what_fails(make):
    done, calls = make("up", fails="statefulset/kafka-broker")
    assert done.returncode != 0
    assert apply("detector") not in calls


def test_nuke_asks(make):
    done, calls = make("nuke", stdin="no\n")
    assert done.returncode != 0 and "nothing was deleted" in done.stdout
    assert not any("delete" in call or "uninstall" in call for call in calls)
    for arguments, stdin in [((), "yes\n"), (("SURE=yes",), "")]:
        done, calls = make("nuke", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        assert calls[-2:] == [
            "kubectl --context minikube delete namespace ids --ignore-not-found --timeout 10m",
            "minikube delete --profile minikube",
        ]


@pytest.mark.parametrize(
    "target, missing",
    [
        ("start-kafka", "kubectl"),
        ("setup-monitoring", "helm"),
        ("start-minikube", "minikube"),
        ("nuke", "minikube"),
    ],
)
def test_a_missing_tool_is_named(make, target, missing):
    done, calls = make(target, without=[missing])
    assert done.returncode != 0
    assert f"missing: {missing}" in done.stdout
    assert not any("apply" in call or "delete" in call for call in calls)


def test_a_missing_cluster_is_named(make):
    done, _ = make("start-kafka", "PROFILE=other", fails="version --output json")
    assert done.returncode != 0
    assert "there is no cluster other: make start-minikube" in done.stdout


def test_upload_flows_says_which(make, tmp_path):
    done, _ = make("upload-flows")
    assert "these are the synthetic flows" in done.stdout
    flows = tmp_path / "mine.csv"
    flows.write_text("id\n")
    done, calls = make("upload-flows", f"FILE={flows}")
    assert done.returncode == 0 and "synthetic" not in done.stdout
    assert f"cp --retries 3 {flows} " in calls[2]
    done, calls = make("upload-flows", "FILE=nowhere.csv")
    assert done.returncode != 0 and "there is no file nowhere.csv" in done.stderr
    done, _ = make("upload-flows", fails="get pod spark-client-0")
    assert done.returncode != 0 and "make start-spark-pods" in done.stderr


def test_every_selector_takes_something(make, objects, workloads):
    """What is applied, awaited, read or deleted by a selector or a name is in the manifests."""
    calls = [call for target in EXPECTED for call in make(target)[1]]
    labels = [thing["metadata"]["labels"] for thing in objects]
    selectors = 0
    for call in calls:
        for selector in re.findall(r"(?:-l|--selector) (\S+ in \(\S+\)|\S+=\S+)", call):
            selectors += 1
            key, values = re.fullmatch(r"(\S+)(?: in \((\S+)\)|=(\S+))", selector).group(1), selector
            wanted = re.search(r"(?:in \(|=)([^)]+)", values).group(1).split(",")
            for value in wanted:
                assert any(one.get(key) == value for one in labels), selector
        for kind, name in re.findall(r"(statefulset|deployment|job)/(\S+)", call):
            assert workloads[name]["kind"].lower() == kind
    assert selectors >= 7


def test_each_target_has_a_line_of_help(make):
    done, _ = make("help")
    for target in [*EXPECTED, "up", "images", "nuke", "setup-monitoring"]:
        assert re.search(rf"make {target} ", done.stdout), target


def test_logs_are_of_a_part_that_is(make, workloads):
    for part in ("detector", "kafka", "producer", "spark"):
        _, calls = make("logs", f"OF={part}")
        assert f"app.kubernetes.io/component={part}" in calls[-1]
        assert any(
            matches({"matchLabels": {"app.kubernetes.io/component": part}}, pod(one)["metadata"]["labels"])
            for one in workloads.values()
        )
