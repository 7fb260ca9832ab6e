"""The images, and pods that run from them."""

import pytest

from pods import Image, Pods, store


@pytest.fixture(scope="session")
def images():
    """The images that `make images-check` built."""
    # Those of a run that was killed.
    store("rm", "--all")
    found = {}
    try:
        for name in ("ids", "ids-kafka", "ids-spark"):
            found[name] = Image(name)
        yield found
    finally:
        for image in found.values():
            image.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory, workloads, find, images):
    """Kafka's six nodes."""
    pods = Pods(tmp_path_factory.mktemp("pods"), workloads, find, images)
    try:
        for name in pods.addresses:
            if name.startswith("kafka-"):
                pods.start_pod(name)
        yield pods
    finally:
        pods.close()
