"""The manifests as kustomize renders them, and what is asked of them; programs that do so."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS = ("StatefulSet", "Deployment", "Job")
KUSTOMIZATIONS = {"minikube": "k8s/overlays/minikube", "monitoring": "k8s/monitoring"}


def tool(name):
    """A program of the project's own tools, else of the machine."""
    own = ROOT / "target/tools/bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found, f"missing: {name}: `make k8s-check` gets it"
    return found


def render(directory):
    """The objects of a kustomization."""
    command = (
        [tool("kustomize"), "build"]
        if (ROOT / "target/tools/bin/kustomize").exists()
        else ["kubectl", "kustomize"]
    )
    done = subprocess.run([*command, directory], cwd=ROOT, check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def pod(workload):
    """The pod that a workload makes."""
    return workload["spec"]["template"]


def containers(workload):
    """All containers of a pod."""
    spec = pod(workload)["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def matches(selector, labels):
    """Whether a label selector takes labels; None takes nothing, {} everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    known = {"In": lambda key, values: labels.get(key) in values}
    return wanted and all(
        known[expression["operator"]](expression["key"], expression["values"])
        for expression in selector.get("matchExpressions", [])
    )


def run(*command, **options):
    """Runs a program; its outcome, and what it said."""
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": False, "timeout": 120, **options}
    return subprocess.run(list(map(str, command)), env=options.pop("env", os.environ), **options)
