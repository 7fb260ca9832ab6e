"""What the checks look at."""

import pytest

from manifests import KUSTOMIZATIONS, WORKLOADS, render


@pytest.fixture(scope="session")
def rendered():
    """All objects of each kustomization."""
    return {name: render(directory) for name, directory in KUSTOMIZATIONS.items()}


@pytest.fixture(scope="session")
def objects(rendered):
    """All objects."""
    return [thing for things in rendered.values() for thing in things]


@pytest.fixture(scope="session")
def workloads(objects):
    """What makes pods, by name."""
    return {thing["metadata"]["name"]: thing for thing in objects if thing["kind"] in WORKLOADS}


@pytest.fixture(scope="session")
def find(objects):
    """Finds an object by kind and name; names of ConfigMaps end in a hash."""

    def of(kind, name):
        for thing in objects:
            own = thing["metadata"]["name"]
            if thing["kind"] == kind and (
                own == name or kind == "ConfigMap" and own.rpartition("-")[0] == name
            ):
                return thing
        raise LookupError(f"there is no {kind} {name}")

    return of
