"""What the tests share. They run against the installed package, with the repository's root as working directory."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import ids_py

ROOT = Path(__file__).resolve().parents[2]
FLOWS = ROOT / "testdata/synthetic-unsw-nb15.csv"
SMALL = ROOT / "models/unsw-nb15-small"
CATEGORIES = ("proto", "service", "state")


@pytest.fixture(scope="session", autouse=True)
def at_the_root():
    os.chdir(ROOT)
    # Installed, not the source tree: the wheel is what is tested.
    assert not Path(ids_py.__file__).is_relative_to(ROOT / "ids-py")


@pytest.fixture(scope="session")
def model():
    return ids_py.Model.from_spark(SMALL)


@pytest.fixture(scope="session")
def rows():
    """The synthetic flows as dictionaries: numbers as floats, everything else as text, missing categories None."""
    numbers = {column["name"] for column in ids_py.Schema("unsw-nb15").columns if column["kind"] == "number"}
    with FLOWS.open() as file:
        lines = list(csv.DictReader(file))
    return [
        {name: float(value) if name in numbers else (value or None) for name, value in line.items()}
        for line in lines
    ]


@pytest.fixture(scope="session")
def flow(rows):
    return rows[0]


@pytest.fixture(scope="session")
def scores(model):
    """What the parser of the detector and the model make of the synthetic flows."""
    return model.score(FLOWS)


@pytest.fixture(scope="session")
def golden():
    """Spark's own doubles for the first synthetic flows, as integers of their bits."""
    text = (ROOT / "testdata/golden/unsw-nb15-small.synthetic.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    bits = {
        key: np.array([[int(cell, 16) for cell in line[key]] for line in lines], np.uint64)
        for key in ("raw", "probability")
    }
    return bits | {"prediction": np.array([line["prediction"] for line in lines])}


def bits(array):
    return np.ascontiguousarray(array).view(np.uint64)


def same_bits(left, right):
    return left.shape == right.shape and bool((bits(left) == bits(right)).all())
