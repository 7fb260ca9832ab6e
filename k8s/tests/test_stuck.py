"""What `make status` says of pods that are stuck."""

import json
import subprocess
import sys

from manifests import ROOT


def said(*items):
    """What is said of these objects."""
    done = subprocess.run(
        [sys.executable, ROOT / "k8s/scripts/stuck.py"],
        input=json.dumps({"items": items}),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def a_pod(name="detector-0", phase="Pending", conditions=(), containers=()):
    status = {"phase": phase, "conditions": list(conditions), "containerStatuses": list(containers)}
    return {"kind": "Pod", "metadata": {"name": name, "uid": name}, "status": status}


def an_event(about, reason, message, at="2025-01-01T00:00:00Z"):
    return {
        "kind": "Event",
        "type": "Warning",
        "metadata": {"name": "event"},
        "involvedObject": {"uid": about},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


READY = {"type": "Ready", "status": "True"}


def test_nothing_is_said_of_what_runs():
    assert (
        said(a_pod(phase="Running", conditions=[READY]), a_pod("job", phase="Succeeded"))
        == "\n2 pods; stuck: none\n"
    )
    assert "make up" in said()


def test_a_claim_without_a_volume():
    claim = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "uid": "c"},
        "status": {"phase": "Pending"},
    }
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "message": "pod has unbound immediate PersistentVolumeClaims",
    }
    text = said(
        claim, an_event("c", "FailedBinding", "no storage class is set"), a_pod(conditions=[condition])
    )
    assert "claim models has no volume: no storage class is set" in text
    assert "-> its claim has no volume" in text
    assert "stuck: 2" in text


def test_an_image_that_is_not_there():
    container = {
        "name": "detector",
        "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "ids:0.1.0"}},
    }
    text = said(a_pod(containers=[container]))
    assert "detector: ErrImageNeverPull ids:0.1.0" in text
    assert "-> the image is not there: make images" in text


def test_too_little_memory():
    message = "0/1 nodes are available: 1 Insufficient memory."
    text = said(a_pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}]))
    assert message in text and "-> no node has that much memory left" in text


def test_a_program_that_ends():
    container = {
        "name": "detector",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    text = said(a_pod(containers=[container]))
    assert "ended with 137 (OOMKilled)" in text and "-> it took more memory than its limit" in text


def test_the_newest_events_are_told():
    events = [
        an_event("detector-0", "FailedMount", f"try {i}", at=f"2025-01-01T00:00:0{i}Z") for i in range(5)
    ]
    text = said(a_pod(), *events)
    assert "try 4" in text and "try 1" not in text
