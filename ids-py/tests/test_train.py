"""Training without Spark: the same model from every kind of input, errors, Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap

import pandas as pd
import pyarrow as pa
import pytest

import ids_py
from conftest import FLOWS, ROOT
from ids_py import DecodeError, Model, SchemaMismatch, TrainingError

SETTINGS = {"trees": 6, "depth": 5, "seed": 3}


@pytest.fixture(scope="module")
def trained():
    return ids_py.train(FLOWS, **SETTINGS)


def test_a_trained_model_scores_and_says_where_it_is_from(trained, tmp_path):
    info = trained.info()
    assert (info["n_trees"], info["depth"], info["n_features"], info["spark_version"]) == (6, 5, 42, None)
    assert info["training"]["rows"] == 9000 and info["training"]["settings"]["seed"] == "3"
    assert info["training"]["holdout"] is None
    assert trained.benign == "Normal" and set(trained.inputs).isdisjoint({"id", "attack_cat", "label"})
    assert ids_py.evaluate(trained, FLOWS).accuracy > 0.7
    path = tmp_path / "model.ids"
    trained.save(path)
    assert Model.load(path).version == trained.version


@pytest.mark.parametrize(
    "way_in", [ids_py.read_flows, lambda path: path.read_bytes(), lambda path: rows_of(path)]
)
def test_every_kind_of_input_gives_the_same_model(trained, way_in):
    data = way_in(FLOWS)
    if isinstance(data, bytes):
        # As JSON lines, a flow each.
        data = (
            pd.read_csv(FLOWS, dtype={"id": str, "label": str}).to_json(orient="records", lines=True).encode()
        )
    assert ids_py.train(data, **SETTINGS, n_threads=1).version == trained.version


def rows_of(path):
    frame = ids_py.read_flows(path).to_pandas()
    return pa.Table.from_pandas(frame)


def test_dicts_and_frames_too(trained, rows):
    assert ids_py.train(rows, "unsw-nb15", **SETTINGS).version == trained.version
    frame = ids_py.read_flows(FLOWS).to_pandas()
    assert ids_py.train(frame, ids_py.Schema("unsw-nb15"), **SETTINGS).version == trained.version


def test_settings_decide_what_the_model_is(trained):
    for other in (
        {"seed": 4},
        {"features_per_node": 5},
        {"balance": 0.0},
        {"min_rows_per_leaf": 50},
        {"bins": 8},
    ):
        assert ids_py.train(FLOWS, **{**SETTINGS, **other}).version != trained.version, other


def test_what_cannot_be_trained_says_why(rows):
    for settings, expected in [
        ({"trees": 0}, "trees is 0, not 1 to 10000"),
        ({"depth": 31}, "depth is 31"),
        ({"balance": -1.0}, "balance is -1"),
    ]:
        with pytest.raises(TrainingError, match=expected):
            ids_py.train(FLOWS, **settings)
    with pytest.raises(TrainingError, match="sqrt, third, all"):
        ids_py.train(FLOWS, features_per_node="half")
    with pytest.raises(TrainingError, match="no labelled flow"):
        ids_py.train([{**row, "attack_cat": None} | {"attack_cat": " "} for row in rows[:0]])
    benign = [row for row in rows if row["attack_cat"] == "Normal"]
    with pytest.raises(TrainingError, match="all of class `Normal`"):
        ids_py.train(benign)
    with pytest.raises(TrainingError, match="no flow is of the benign class"):
        ids_py.train([row for row in rows if row["attack_cat"] != "Normal"])
    with pytest.raises(FileNotFoundError):
        ids_py.train("nowhere.csv")
    with pytest.raises(TypeError, match="holds no flows"):
        ids_py.train(ids_py.read_flows(FLOWS)["dur"])


def test_a_row_that_is_no_flow_is_named(rows, tmp_path):
    path = tmp_path / "flows.csv"
    lines = FLOWS.read_text().splitlines()[:100]
    lines[7] = "too,short"
    path.write_text("\n".join(lines))
    with pytest.raises(DecodeError, match="2 fields") as raised:
        ids_py.train(path)
    assert raised.value.row == 6
    # Set apart by who reads the file.
    assert ids_py.train(ids_py.read_flows(path), trees=1).info()["training"]["rows"] == 98
    with pytest.raises((DecodeError, SchemaMismatch)):
        ids_py.train([rows[0], {**rows[1], "dur": "fast"}])


def test_ctrl_c_ends_it():
    program = textwrap.dedent(f"""
        import ids_py, sys
        try:
            print("trains", flush=True)
            ids_py.train({str(FLOWS)!r}, trees=10_000, depth=30)
        except KeyboardInterrupt:
            sys.exit(7)
        """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "trains\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 7
