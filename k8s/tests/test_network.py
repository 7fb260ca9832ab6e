"""Who may speak with whom, as the network policies say it."""

import pytest

from manifests import matches, pod


@pytest.fixture(scope="session")
def reaches(objects, workloads):
    """Whether the policies let one pod speak to a port of another."""
    policies = [thing["spec"] for thing in objects if thing["kind"] == "NetworkPolicy"]
    namespaces = {
        "ids": {"kubernetes.io/metadata.name": "ids"},
        "monitoring": {"kubernetes.io/metadata.name": "monitoring"},
        "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
    }

    def labels(name):
        return pod(workloads[name])["metadata"]["labels"] if name in workloads else {}

    def namespace(name):
        return name if name in namespaces else "ids"

    def is_peer(peer, name):
        assert "ipBlock" not in peer
        if "namespaceSelector" in peer:
            return matches(peer["namespaceSelector"], namespaces[namespace(name)]) and (
                "podSelector" not in peer or matches(peer["podSelector"], labels(name))
            )
        return namespace(name) == "ids" and matches(peer["podSelector"], labels(name))

    def numbers(rule, target):
        """Ports of a rule: names are those of the target's containers."""
        if "ports" not in rule:
            return None
        own = (
            [port for c in pod(workloads[target])["spec"]["containers"] for port in c.get("ports", [])]
            if target in workloads
            else []
        )
        by_name = {port["name"]: port["containerPort"] for port in own}
        return [by_name.get(port["port"], port["port"]) for port in rule["ports"]]

    def permits(kind, name, other, target, port):
        if namespace(name) != "ids":
            return True
        peers = {"Ingress": "from", "Egress": "to"}[kind]
        mine = [
            policy
            for policy in policies
            if kind in policy["policyTypes"] and matches(policy["podSelector"], labels(name))
        ]
        assert mine, f"{name} is under no policy"
        for policy in mine:
            for rule in policy.get(kind.lower(), []):
                ports = numbers(rule, target)
                if any(is_peer(peer, other) for peer in rule[peers]) and (ports is None or port in ports):
                    return True
        return False

    def reaches(source, target, port):
        return permits("Egress", source, target, target, port) and permits(
            "Ingress", target, source, target, port
        )

    return reaches


ALLOWED = [
    ("kafka-controller", "kafka-controller", 9093),
    ("kafka-broker", "kafka-controller", 9093),
    ("kafka-broker", "kafka-broker", 9092),
    ("kafka-topics", "kafka-broker", 9092),
    ("producer", "kafka-broker", 9092),
    ("detector", "kafka-broker", 9092),
    ("spark-client", "kafka-broker", 9092),
    ("spark-worker", "kafka-broker", 9092),
    ("spark-client", "spark-master", 7077),
    ("spark-worker", "spark-master", 7077),
    ("spark-worker", "spark-client", 7078),
    ("spark-worker", "spark-worker", 7079),
    ("monitoring", "detector", 9464),
    ("monitoring", "producer", 9465),
    ("monitoring", "kafka-broker", 9404),
    ("monitoring", "kafka-controller", 9404),
    ("monitoring", "spark-master", 8080),
    ("monitoring", "spark-worker", 8081),
    ("monitoring", "spark-client", 4040),
    ("detector", "kube-system", 53),
    ("kafka-controller", "kube-system", 53),
]
REFUSED = [
    ("producer", "kafka-controller", 9093),
    ("detector", "kafka-controller", 9093),
    ("producer", "detector", 9464),
    ("detector", "producer", 9465),
    ("detector", "spark-master", 7077),
    ("spark-worker", "detector", 9464),
    ("kafka-broker", "detector", 9464),
    ("monitoring", "kafka-broker", 9092),
    ("monitoring", "spark-master", 7077),
    ("kube-system", "kafka-broker", 9092),
    ("detector", "kube-system", 443),
    ("detector", "monitoring", 9090),
]


def test_what_no_policy_names_is_refused(objects):
    """Whatever the others say, and however few they are."""
    policies = [thing["spec"] for thing in objects if thing["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies


@pytest.mark.parametrize("source, target, port", ALLOWED)
def test_allowed(reaches, source, target, port):
    assert reaches(source, target, port)


@pytest.mark.parametrize("source, target, port", REFUSED)
def test_refused(reaches, source, target, port):
    assert not reaches(source, target, port)
