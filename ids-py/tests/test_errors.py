"""What is wrong is a specific exception that names the column; nothing panics."""

import errno
import gzip
import json
import math
import os
import pickle
import random

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ids_py
from conftest import FLOWS, ROOT, SMALL, same_bits
from test_golden import KINDS, double, fixture_schema
from ids_py import DecodeError, IdsError, ModelFileError, ModelImportError, RowError, SchemaMismatch

OTHER = """
name = "other"
[labels]
column = "class"
benign = "Normal"
[[columns]]
name = "dur"
kind = "number"
[[columns]]
name = "class"
kind = "label"
"""


def forms(rows):
    return [pa.Table.from_pylist(rows), pl.DataFrame(rows), pd.DataFrame(rows)]


def test_the_tree():
    for error in ids_py.errors.__all__:
        assert issubclass(getattr(ids_py, error), IdsError)
    error = RowError("message", 3, "proto", "stage", "refused", "refused")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.row, again.column) == ("message", 3, "proto")


def test_a_missing_column(model, rows):
    lacking = [
        {name: value for name, value in row.items() if name not in ("sload", "proto")} for row in rows[:3]
    ]
    for data in forms(lacking):
        with pytest.raises(
            SchemaMismatch, match="cannot supply 2 columns that the model needs: proto, sload"
        ) as caught:
            model.predict(data)
        assert caught.value.columns == ("proto", "sload")
    with pytest.raises(DecodeError, match="row 0 .* column `proto`: the column is absent"):
        model.predict(lacking)
    for data in (pd.DataFrame(), pa.table({}), pl.DataFrame()):
        with pytest.raises(SchemaMismatch, match="cannot supply 42 columns|cannot supply 4[0-9] columns"):
            model.predict(data)


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("dur", "fast", "takes a number"), ("dur", True, "takes a number"), ("proto", 17, "takes text")],
)
def test_a_wrong_dtype(model, rows, column, value, found):
    wrong = [row | {column: value} for row in rows[:3]]
    for data in forms(wrong):
        with pytest.raises(SchemaMismatch, match=f"column `{column}` of the .* holds .*{found}") as caught:
            model.score(data)
        assert caught.value.columns == (column,)
    with pytest.raises(DecodeError, match=f"row 0 has no score: column `{column}`: found") as caught:
        model.predict(wrong)
    assert (caught.value.row, caught.value.column, caught.value.kind) == (0, column, "wrong_type")


def test_object_columns(model, rows):
    frame = pd.DataFrame(rows[:3])
    with pytest.raises(SchemaMismatch, match="column `dur` of the DataFrame holds object.*pandas.to_numeric"):
        model.predict(frame.astype({"dur": object}))
    with pytest.raises(SchemaMismatch, match="column `proto` of the DataFrame"):
        model.predict(frame.assign(proto=[["unhashable"]] * 3))
    with pytest.raises(SchemaMismatch, match="column `dur` of the DataFrame holds datetime"):
        model.predict(frame.assign(dur=pd.Timestamp("2026-01-01")))
    twice = pd.concat([frame, frame[["dur"]]], axis=1)
    with pytest.raises(SchemaMismatch, match="`dur` is there twice") as caught:
        model.predict(twice)
    assert caught.value.columns == ("dur",)
    with pytest.raises(SchemaMismatch, match="`sintpkt` is there twice, as `sinpkt` too") as caught:
        model.predict(frame.assign(sintpkt=1.0))
    assert caught.value.columns == ("sinpkt", "sintpkt")


@pytest.mark.parametrize("value", [[1.0], pa.scalar(1).as_py, "2026-01-01"])
def test_arrow_types_that_are_no_numbers(model, rows, value):
    table = pa.Table.from_pylist(rows[:2])
    place = table.schema.get_field_index("dur")
    for array in (pa.array([[1.0], [2.0]]), pa.array([1, 2], pa.timestamp("s")), pa.array(["1", "2"])):
        with pytest.raises(SchemaMismatch, match="column `dur`"):
            model.predict(table.set_column(place, "dur", array))


def test_features(model):
    for shape in ((3, 41), (3, 43), (41,)):
        with pytest.raises(SchemaMismatch, match=f"has {shape[-1]} features per row, the model takes 42"):
            model.predict(np.zeros(shape))
    with pytest.raises(SchemaMismatch, match="float32, not float64.*astype"):
        model.predict_proba(np.zeros((3, 42), np.float32))
    with pytest.raises(SchemaMismatch, match="object, not float64"):
        model.predict_proba(np.zeros((3, 42), object))
    with pytest.raises(SchemaMismatch, match="3 dimensions"):
        model.predict_proba(np.zeros((3, 42, 1)))
    with pytest.raises(SchemaMismatch, match="0 dimensions"):
        model.predict_proba(np.array(1.0))


def test_what_is_no_input(model):
    for data in (7, None, object(), {1, 2}, range(3), iter([])):
        with pytest.raises(TypeError, match="cannot read flows from"):
            model.predict(data)
    for data in ([1], [[1.0] * 42], ["a"], [None]):
        with pytest.raises(TypeError, match="item 0 is .* not a dict"):
            model.predict(data)
    with pytest.raises(ValueError, match="errors must be"):
        model.predict([], errors="ignore")
    for data in ([], {}, np.zeros(42), np.zeros((2, 42))):
        for call in (model.predict, model.predict_proba, model.raw_prediction, model.score):
            for n_threads in (0, -1):
                with pytest.raises(ValueError, match=f"n_threads must be 1 or more.*not {n_threads}"):
                    call(data, n_threads=n_threads)


def test_files_that_cannot_be_read(model, tmp_path):
    """Python's own exceptions, as `open` raises them."""
    for call in (model.predict, ids_py.read_flows, ids_py.Model.load):
        with pytest.raises(FileNotFoundError, match="absent.csv") as caught:
            call("absent.csv")
        assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, os.strerror(errno.ENOENT))
        assert caught.value.filename == "absent.csv"
    with pytest.raises(IsADirectoryError) as caught:
        model.predict(ROOT)
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(ROOT))
    path = tmp_path / "flows"
    for data, message in [
        (b"PAR1\0\0PAR1", "is a Parquet file"),
        (gzip.compress(FLOWS.read_bytes()), "is compressed"),
        (b"\0\1\2\n", "names no column"),
        (b"colour\nred\n", "names no column"),
    ]:
        path.write_bytes(data)
        for call in (model.predict, ids_py.read_flows):
            with pytest.raises(SchemaMismatch, match=message) as caught:
                call(path)
            assert str(path) in str(caught.value)


def test_what_is_nearly_an_input(model, rows):
    """The message says what to pass instead."""
    frame = pd.DataFrame(rows[:3])
    for series in (frame.iloc[0], frame["dur"]):
        with pytest.raises(TypeError, match=r"pandas Series .* series.to_dict\(\) .* series.to_frame\(\)"):
            model.predict(series)
    for data in (pl.Series("dur", [1.0]), pa.chunked_array([[1.0]]), pa.array([1.0])):
        with pytest.raises(TypeError, match="which is no table"):
            model.predict(data)
    for text in (json.dumps(rows[0]), f" {json.dumps(rows[0], indent=2)}", json.dumps(rows[:2])):
        with pytest.raises(TypeError, match="pass JSON as bytes"):
            model.predict(text)
    for shape in ((3, 42), (42,)):
        masked = np.ma.MaskedArray(np.zeros(shape), mask=np.ones(shape))
        for call in (model.predict, model.predict_proba, model.score):
            with pytest.raises(TypeError, match="masked arrays are not read: fill"):
                call(masked)
        bare = np.ma.MaskedArray(np.zeros(shape))
        assert same_bits(model.predict_proba(bare), model.predict_proba(np.zeros(shape)))


def test_rows_without_score(model, rows):
    """Dropped, refused, undecodable: told row by row, and never a number."""
    data = [dict(row) for row in rows[:6]]
    data[1]["dur"] = "fast"
    del data[4]["sload"]
    scores = model.score(data)
    assert scores.scored.tolist() == [True, False, True, True, False, True]
    assert [(f.row, f.outcome, f.kind, f.column) for f in scores.faults] == [
        (1, "undecodable", "wrong_type", "dur"),
        (4, "undecodable", "missing_column", "sload"),
    ]
    assert scores.label[1] is None and scores.label[0] in model.labels
    for array in (scores.probability, scores.raw_prediction, scores.prediction):
        assert np.isnan(array[[1, 4]]).all() and not np.isnan(array[[0, 2, 3, 5]]).any()
    good = model.predict_proba([data[row] for row in (0, 2, 3, 5)])
    assert same_bits(scores.probability[[0, 2, 3, 5]], good)
    with pytest.raises(DecodeError, match="row 1 .*2 of 6 rows have none"):
        model.predict_proba(data)
    assert np.isnan(model.predict_proba(data, errors="nan")[4]).all()
    assert model.predict(data, errors="nan")[1] is None
    assert model.predict(data[1], errors="nan") is None
    assert np.isnan(model.raw_prediction(data[1], errors="nan")).all()
    table = pa.table(scores)
    assert table.column("outcome").to_pylist() == [
        "scored",
        "undecodable",
        "scored",
        "scored",
        "undecodable",
        "scored",
    ]
    assert table.column("prediction").null_count == table.column("probability").null_count == 2
    assert table.column("column").to_pylist()[4] == "sload"
    assert table.column("probability").to_pylist()[0] == scores.probability[0].tolist()


def test_stages_that_drop_and_refuse():
    """What a stage does with a value it has no answer for is an outcome of the row, with the stage and the column."""
    fixture = ROOT / "testdata/spark/3.5.9/pipeline_basic"
    model = ids_py.Model.from_spark(fixture, fixture_schema())
    lines = (fixture.parent / "pipeline_basic.golden.jsonl").read_text().splitlines()
    line = json.loads(lines[0])
    good = {name: double(line[name]) for kind in ("number", "integer") for name in KINDS[kind]}
    good |= {name: line[name] for name in KINDS["category"]}
    data = [good, good | {"src_bytes": None}, good, good | {"src_bytes": 0.5}]
    for rows in (data, pa.Table.from_pylist(data)):
        scores = model.score(rows)
        assert scores.scored.tolist() == [True, False, True, False], scores.faults
        missing, fraction = scores.faults
        assert (missing.row, missing.column) == (
            1,
            "src_bytes",
        ) and missing.outcome == missing.kind == "refused"
        assert missing.stage and missing.stage in missing.detail
        assert (fraction.row, fraction.outcome, fraction.column) == (3, "undecodable", "src_bytes")
        assert same_bits(scores.probability[0], scores.probability[2])
        with pytest.raises(RowError, match="row 1 has no score: stage `") as caught:
            model.predict(rows)
        assert (caught.value.row, caught.value.stage, caught.value.column) == (1, missing.stage, "src_bytes")
    with pytest.raises(RowError):
        model.predict(data[1])


def test_bad_lines_of_a_file(model, tmp_path):
    lines = FLOWS.read_text().splitlines()
    bad = lines[3].split(",")
    bad[1] = "fast"
    path = tmp_path / "flows.csv"
    path.write_text(
        "\n".join([lines[0], lines[1], "1,2,3", lines[2], lines[0], ",".join(bad), lines[4]]) + "\n"
    )
    scores = model.score(path)
    assert [(f.row, f.kind, f.column) for f in scores.faults] == [
        (1, "row_too_short", None),
        (3, "wrong_type", "dur"),
    ]
    flows = ids_py.read_flows(path)
    assert len(flows) == 3 and flows.rows.tolist() == [0, 2, 4]
    assert [(f.row, f.kind) for f in flows.rejected] == [(1, "row_too_short"), (3, "wrong_type")]
    assert flows.skipped == scores.skipped == {"repeated_headers": 1, "empty_rows": 0}
    assert model.score({name: [0] for name in model.inputs}).skipped["repeated_headers"] == 0
    with pytest.raises(SchemaMismatch, match="names no column"):
        ids_py.read_flows(ROOT / "README.md")
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("dur,proto\n1,tcp\n")
    flows = ids_py.read_flows(lacking)
    assert flows.columns == ["dur", "proto"]
    for call in (
        lambda: model.predict(flows),
        lambda: ids_py.read_flows(lacking, model),
        lambda: model.predict(lacking),
    ):
        with pytest.raises(SchemaMismatch, match="cannot supply"):
            call()
    with pytest.raises(KeyError, match="no column `sload`; there are dur, proto"):
        flows["sload"]


def test_another_schema(model, tmp_path):
    schema = ids_py.Schema.from_toml(OTHER)
    with pytest.raises(SchemaMismatch, match="`other` cannot supply"):
        ids_py.Model.from_spark(SMALL, schema=schema)
    path = tmp_path / "other.csv"
    path.write_text("dur,class\n1,Normal\n")
    flows = ids_py.read_flows(path, schema)
    with pytest.raises(SchemaMismatch, match="of schema `other`, not of `unsw-nb15`"):
        model.predict(flows)
    with pytest.raises(ids_py.SchemaError, match="unknown field"):
        ids_py.Schema.from_toml("colour = 1")
    with pytest.raises(FileNotFoundError, match="built-in schemas .unsw-nb15") as caught:
        ids_py.Schema("absent")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "absent")
    toml = tmp_path / "other.toml"
    toml.write_text(OTHER)
    for name in (toml, str(toml)):
        assert ids_py.Schema(name).name == ids_py.read_flows(path, name).schema.name == "other"
    with pytest.raises(TypeError, match="a schema is"):
        ids_py.read_flows(path, 7)


def test_models_that_are_none(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        ids_py.Model.load(tmp_path / "absent")
    with pytest.raises(ModelFileError, match="not a model file"):
        ids_py.Model.load(FLOWS)
    with pytest.raises(ModelImportError, match="metadata"):
        ids_py.Model.from_spark(tmp_path)
    with pytest.raises(ModelImportError, match="predicts a number|no class"):
        ids_py.Model.from_spark(ROOT / "testdata/spark/4.3.0/rfr", ids_py.Schema.from_toml(OTHER))
    data = model.to_bytes()
    for damaged in (
        b"",
        data[:100],
        data[:-1],
        data + b"x",
        data[:200] + bytes([data[200] ^ 1]) + data[201:],
    ):
        with pytest.raises(ModelFileError):
            ids_py.Model.from_bytes(damaged)


class Hostile:
    """A number whose reading does whatever it likes."""

    def __init__(self, act):
        self.act = act

    def __float__(self):
        return self.act()

    def __repr__(self):
        raise RuntimeError("no representation")


def test_values_that_run_code(model, flow):
    """Reading a value may change the dictionary, score with the same model, raise, or return nonsense."""
    changing = dict(flow)
    changing["sload"] = Hostile(lambda: changing.clear() or 1.0)
    assert model.predict(changing) in model.labels and not changing
    again = flow | {"sload": Hostile(lambda: float(model.predict_proba(flow)[0]))}
    assert model.predict(again) in model.labels
    for act in (lambda: 1 / 0, lambda: "text", lambda: None):
        with pytest.raises(DecodeError, match="column `sload`"):
            model.predict(flow | {"sload": Hostile(act)})
    for value in (10**400, "1.0", b"1", [], np.bool_(True), True, 1j, float):
        with pytest.raises(DecodeError, match="column `sload`"):
            model.predict(flow | {"sload": value})
    for value in (17, b"udp", float("nan"), "\ud800", []):
        with pytest.raises(DecodeError, match="column `proto`"):
            model.predict(flow | {"proto": value})
    assert same_bits(
        model.predict_proba(flow | {"sload": pd.NA}), model.predict_proba(flow | {"sload": None})
    )
    for value in (math.nan, math.inf, -math.inf, -0.0, 5e-324, 10**300):
        assert model.predict(flow | {"sload": value}) in model.labels


def test_arrow_objects_that_are_none(model):
    class Stream:
        def __init__(self, result):
            self.result = result

        def __arrow_c_stream__(self, requested_schema=None):
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    for result in (7, None, RuntimeError("no")):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            model.predict(Stream(result))
    for data in (pa.array([1.0]), pa.chunked_array([[1.0]]), pl.Series([1.0])):
        with pytest.raises((SchemaMismatch, ValueError, TypeError)):
            model.predict(data)


def test_damaged_json(model, flow):
    """Whatever bytes come: scores, or faults that name the place."""
    draws = random.Random(7)
    good = json.dumps(flow).encode()
    for _ in range(2000):
        text = bytearray(good)
        for _ in range(draws.randint(1, 4)):
            place = draws.randrange(len(text))
            match draws.randrange(3):
                case 0:
                    text[place] = draws.randrange(256)
                case 1:
                    del text[place : place + draws.randint(1, 9)]
                case _:
                    text[place:place] = bytes(draws.choices(b'{}[]",:0e\\\n\xff', k=3))
        scores = model.score(bytes(text))
        assert len(scores) == len(scores.faults) + int(scores.scored.sum())
    for text in (b"", b"\n", b"\n\n", b"[]", b"null", b"{}", b"\xff\xfe", b"{" * 100_000, b"[{}]"):
        scores = model.score(text)
        assert not scores.scored.any() and len(scores.faults) == len(scores) >= 1
