"""Reads pods, events and claims of a namespace as JSON, and says of each pod that is not ready why, and what to do.

kubectl get pods,events,persistentvolumeclaims -o json | python3 k8s/scripts/stuck.py
"""

import json
import sys

ADVICE = [
    ("ErrImageNeverPull", "the image is not there: make images"),
    ("ImagePullBackOff", "the image cannot be had: make images"),
    ("ErrImagePull", "the image cannot be had: make images"),
    ("InvalidImageName", "the image has no valid name"),
    ("OOMKilled", "it took more memory than its limit"),
    ("CrashLoopBackOff", "it ends again and again: kubectl logs --previous tells why"),
    ("CreateContainerConfigError", "it names a ConfigMap, Secret or user that cannot be"),
    (
        "Insufficient memory",
        "no node has that much memory left: make start-minikube MEMORY=16g, after minikube delete",
    ),
    ("Insufficient cpu", "no node has that much CPU left: make start-minikube CPUS=6, after minikube delete"),
    ("unbound immediate PersistentVolumeClaims", "its claim has no volume: see the claim"),
    ("persistentvolumeclaim", "its claim is not there: make start-kafka makes those of all"),
]


def is_ready(pod):
    """Whether a pod serves, or is done."""
    if pod["status"].get("phase") == "Succeeded":
        return True
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def of_containers(pod):
    """What the containers wait for, or ended with."""
    status = pod["status"]
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get(
            "terminated"
        )
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{container['name']}: {waiting['reason']} {waiting.get('message', '')}".strip()
        if ended and ended.get("exitCode"):
            yield f"{container['name']}: ended with {ended['exitCode']} ({ended.get('reason', 'no reason')})"


def reasons(pod, events):
    """Why a pod is not ready, best first."""
    found = list(of_containers(pod))
    for condition in pod["status"].get("conditions", []):
        if condition["status"] == "False" and condition.get("message"):
            found.append(f"{condition['type']}: {condition['message']}")
    warnings = [event for event in events if event.get("type") == "Warning" and is_about(event, pod)]
    for event in sorted(warnings, key=when)[-3:]:
        found.append(f"{event['reason']}: {event['message']}")
    return list(dict.fromkeys(found)) or [
        f"{pod['status'].get('phase', 'Unknown')}, and nothing is told of it yet"
    ]


def is_about(event, thing):
    """Whether an event tells of a thing."""
    return event["involvedObject"].get("uid") == thing["metadata"]["uid"]


def when(event):
    """When an event was seen last; not all have all times."""
    return (
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def advice(lines):
    """What to do, if it is known."""
    return next((what for sign, what in ADVICE if any(sign in line for line in lines)), None)


def main():
    items = json.load(sys.stdin)["items"]
    events = [item for item in items if item["kind"] == "Event"]
    stuck = 0
    for claim in (item for item in items if item["kind"] == "PersistentVolumeClaim"):
        if claim["status"].get("phase") != "Bound":
            stuck += 1
            told = [event["message"] for event in sorted(events, key=when) if is_about(event, claim)]
            print(
                f"\nclaim {claim['metadata']['name']} has no volume: {told[-1] if told else 'nothing is told of it yet'}"
            )
    for pod in (item for item in items if item["kind"] == "Pod" and not is_ready(item)):
        stuck += 1
        lines = reasons(pod, events)
        print(f"\n{pod['metadata']['name']} is not ready")
        for line in lines:
            print(f"  {line}")
        if what := advice(lines):
            print(f"  -> {what}")
    n_pods = sum(item["kind"] == "Pod" for item in items)
    print("\nnothing runs: make up" if not n_pods else f"\n{n_pods} pods; stuck: {stuck or 'none'}")


if __name__ == "__main__":
    main()
