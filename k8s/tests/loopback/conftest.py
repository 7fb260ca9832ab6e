"""One stage for all, since it takes half a minute to set up. In order: each test leaves it as the next one needs it."""

import subprocess

import pytest

import prometheus as server
from manifests import ROOT, containers
from stage import DETECTOR, PRODUCER, PROGRAMS, Stage, get, wait_until


@pytest.fixture(scope="session")
def stage(tmp_path_factory, workloads, find):
    """Kafka as the manifests have it, with its topics."""
    stage = Stage(tmp_path_factory.mktemp("stage"), workloads, find)
    try:
        for name in stage.addresses:
            if name.startswith("kafka-"):
                stage.start_kafka_node(name)
        stage.create_topics()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="session")
def clients(stage, workloads):
    """The producer and a detector, as their pods are."""
    init, _ = containers(workloads["detector"])
    program, *arguments = init["command"]
    paths = {"/usr/share/ids/models/unsw-nb15": "models/unsw-nb15-small", "/models/model.ids": stage.model}
    for _ in range(2):
        subprocess.run(
            [PROGRAMS / program, *(paths.get(one, one) for one in arguments)], cwd=ROOT, check=True
        )
    stage.start_detector()
    stage.start_producer()
    for name, address in [("producer", PRODUCER), ("detector", DETECTOR)]:
        wait_until(f"{name} is ready", lambda a=address: get(f"http://{a}/readyz")[0] == 200, stage=stage)
    return stage


@pytest.fixture(scope="session")
def prometheus(clients, find):
    """A Prometheus that scrapes them all."""
    server.start(clients, find)
    return clients
