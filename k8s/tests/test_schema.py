"""Every object against the schema of its kind: a field that nobody knows, or a kind, is refused."""

import copy

import jsonschema
import kubernetes_validate
import pytest
import yaml

from manifests import ROOT

VERSION = next(
    line.split(":= v")[1].strip()
    for line in (ROOT / "k8s/cluster.mk").read_text().splitlines()
    if line.startswith("KUBERNETES :=")
)
# The operator's definitions, by the module that the Makefile gets.
CRDS = ROOT / "target/k8s/crds"


class Loader(yaml.SafeLoader):
    """Takes a bare `=` for text, as YAML 1.2 does; the definitions have one."""


Loader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)


def closed(schema):
    """A structural schema that refuses fields it does not name, as the API server does when it validates strictly."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if (
        schema.get("type") == "object"
        and isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        schema["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    return schema


@pytest.fixture(scope="session")
def definitions():
    """The schema of each kind of the operator, by kind and version."""
    found = {}
    for path in CRDS.glob("*.yaml"):
        crd = yaml.load(path.read_text(), Loader)
        for version in crd["spec"]["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            # Its own schema is the API server's.
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    assert found, f"no definitions in {CRDS}: `make k8s-check` gets them"
    return found


def check(thing, definitions):
    """Raises where an object is not of its kind."""
    schema = definitions.get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        kubernetes_validate.validate(thing, VERSION, strict=True)
    else:
        jsonschema.Draft202012Validator(schema).validate(thing)


def test_every_object_is_of_its_kind(objects, definitions):
    for thing in objects:
        check(thing, definitions)
    assert {"PodMonitor", "PrometheusRule", "StatefulSet", "NetworkPolicy"} <= {
        thing["kind"] for thing in objects
    }


def test_a_misspelt_field_is_refused(find, definitions):
    for kind, name, path in [
        ("StatefulSet", "kafka-broker", ("spec",)),
        ("StatefulSet", "detector", ("spec", "template", "spec", "containers", 0)),
        ("PodMonitor", "kafka", ("spec", "podMetricsEndpoints", 0)),
        ("PrometheusRule", "ids", ("spec", "groups", 0, "rules", 0)),
    ]:
        thing = copy.deepcopy(find(kind, name))
        place = thing
        for step in path:
            place = place[step]
        place["misspelt"] = "value"
        with pytest.raises(jsonschema.ValidationError):
            check(thing, definitions)


def test_an_unknown_kind_is_refused(definitions):
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check({"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "a"}}, definitions)
