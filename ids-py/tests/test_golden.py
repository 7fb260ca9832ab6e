"""The doubles are Spark's, whichever way the flows come in."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import ids_py
from conftest import FLOWS, ROOT, bits

MODELS = ["unsw-nb15-small", "unsw-nb15"]


def digests(scores):
    arrays = {
        "raw_prediction": scores.raw_prediction,
        "probability": scores.probability,
        "prediction": scores.prediction,
    }
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in arrays.items()
    }


def committed(name):
    return json.loads((ROOT / "testdata/golden" / name).read_text())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_all_synthetic_flows(name, n_threads):
    scores = ids_py.Model.from_spark(ROOT / "models" / name).score(FLOWS, n_threads=n_threads)
    golden = committed(f"{name}.synthetic.json")
    assert len(scores) == golden["rows"] and scores.scored.all()
    assert digests(scores) == golden["sha256"]


@pytest.mark.parametrize("name", MODELS)
def test_real_flows(name):
    flows = Path(os.environ.get("IDS_DATA") or ROOT / "../shared/data") / "unsw-nb15/flows.csv"
    if not flows.is_file():
        pytest.skip("no real flows (set IDS_DATA)")
    scores = ids_py.Model.from_spark(ROOT / "models" / name).score(flows)
    golden = committed(f"{name}.real.json")
    assert len(scores) == golden["rows"]
    assert digests(scores) == golden["sha256"]


def test_single_rows(model, rows, golden):
    for row, flow in enumerate(rows[: len(golden["raw"])]):
        assert (bits(model.raw_prediction(flow)) == golden["raw"][row]).all()
        assert (bits(model.predict_proba(flow)) == golden["probability"][row]).all()
        assert model.predict(flow) == model.labels[int(golden["prediction"][row])]


# Of the flows that the fixtures of testdata/spark were trained on.
KINDS = {
    "number": ["duration", "dst_bytes", "rate", "land", "const", "logged_in"],
    "integer": ["src_bytes", "cnt"],
    "category": ["proto", "service", "flag"],
    "label": ["class"],
}


def fixture_schema():
    columns = [f"[[columns]]\nname = '{name}'\nkind = '{kind}'" for kind in KINDS for name in KINDS[kind]]
    labels = "name = 'fixture'\n[labels]\ncolumn = 'class'\nbenign = 'normal'\n"
    return ids_py.Schema.from_toml(labels + "\n".join(columns))


def double(cell):
    return float.fromhex(cell) if isinstance(cell, str) else None if cell is None else float(cell)


@pytest.mark.parametrize("case", ["pipeline_basic", "pipeline_full"])
@pytest.mark.parametrize("version", ["3.0.3", "3.5.9", "4.0.5", "4.1.4", "4.3.0"])
def test_what_other_sparks_saved(version, case):
    """Pipelines of a schema of one's own, with every family of stages."""
    golden = ROOT / f"testdata/spark/{version}/{case}.golden.jsonl"
    if not golden.exists():
        pytest.skip("that version saved no such pipeline")
    model = ids_py.Model.from_spark(golden.with_name(case), fixture_schema())
    lines = [json.loads(line) for line in golden.read_text().splitlines()]
    numbers = KINDS["number"] + KINDS["integer"]
    flows = [
        {name: double(line[name]) for name in numbers} | {name: line[name] for name in KINDS["category"]}
        for line in lines
    ]
    for data in (flows, pa.Table.from_pylist(flows)):
        scores = model.score(data)
        assert scores.scored.all() and len(scores) == len(lines) > 20, scores.faults
        for row, line in enumerate(lines):
            for found, name in (
                (scores.raw_prediction, "rawPrediction"),
                (scores.probability, "probability"),
            ):
                expected = np.array([float.fromhex(cell) for cell in line[name]["v"]])
                assert (bits(found[row]) == bits(expected)).all(), (row, name)
            assert scores.label[row] == line["predicted_label"]
