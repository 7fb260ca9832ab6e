"""Every way in gives the doubles of every other."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ids_py
from conftest import CATEGORIES, FLOWS, ROOT, SMALL, bits, same_bits


@pytest.fixture(scope="module")
def table(rows):
    return pa.Table.from_pylist(rows)


def check(model, data, scores, **options):
    assert same_bits(model.predict_proba(data, **options), scores.probability)
    assert same_bits(model.raw_prediction(data, **options), scores.raw_prediction)
    assert (model.predict(data, **options) == scores.label).all()
    again = model.score(data, **options)
    assert len(again) == len(scores) and again.scored.all() and not again.faults
    assert same_bits(again.probability, scores.probability) and same_bits(again.prediction, scores.prediction)


def cast(table, **types):
    for name, data_type in types.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(data_type))
    return table


def test_arrow(model, table, scores):
    check(model, table, scores)
    check(model, table, scores, n_threads=1)
    chunked = pa.Table.from_batches(table.to_batches(max_chunksize=77))
    check(model, chunked, scores, n_threads=3)
    check(model, table.combine_chunks().to_batches()[0], scores)


def test_a_stream_is_read_once(model, table, scores):
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1000))
    assert same_bits(model.predict_proba(reader), scores.probability)


@pytest.mark.parametrize("text", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_arrow_texts(model, table, scores, text):
    check(model, cast(table, **{name: text for name in CATEGORIES}), scores)


def test_arrow_numbers(model, table, scores):
    integers = {
        "sttl": pa.int16(),
        "dttl": pa.uint8(),
        "spkts": pa.int32(),
        "sbytes": pa.int64(),
        "stcpb": pa.uint64(),
    }
    check(model, cast(table, **integers, swin=pa.float32()), scores)


def test_arrow_slices(model, table, scores):
    part = model.predict_proba(table.slice(1234, 777))
    assert same_bits(part, scores.probability[1234 : 1234 + 777])


def test_nulls_are_missing(model, rows):
    """The imputer fills them, as it does what is None in a dictionary."""
    flow = rows[0] | {"sload": None, "dur": None}
    table = pa.Table.from_pylist([flow] * 3, schema=pa.Table.from_pylist(rows[:1]).schema)
    expected = model.predict_proba(flow)
    assert not same_bits(expected, model.predict_proba(rows[0]))
    for data in (table, pl.from_arrow(table), [flow, flow, flow]):
        assert same_bits(model.predict_proba(data), np.tile(expected, (3, 1)))
    nullable = pd.DataFrame([flow] * 3).astype({"sload": "Float64", "dur": "Float64"})
    assert same_bits(model.predict_proba(nullable), np.tile(expected, (3, 1)))


def test_polars_and_duckdb(model, table, scores):
    frame = pl.from_arrow(table)
    check(model, frame, scores)
    check(model, frame.with_columns(pl.col("proto").cast(pl.Categorical)), scores)
    with duckdb.connect() as connection:
        connection.register("flows", table)
        assert same_bits(model.predict_proba(connection.sql("select * from flows")), scores.probability)


def test_pandas(model, rows, scores):
    frame = pd.DataFrame(rows)
    check(model, frame, scores)
    check(model, frame.astype({name: "category" for name in CATEGORIES}), scores)
    check(model, frame.astype({name: object for name in CATEGORIES}), scores)
    check(model, frame.convert_dtypes(), scores)
    check(model, frame.set_index("id"), scores)
    check(model, frame[list(reversed(frame.columns))], scores)


def test_dicts_and_json(model, rows, scores):
    check(model, rows, scores)
    check(model, tuple(rows), scores)
    text = "\n".join(json.dumps(row) for row in rows).encode()
    for data in (text, text + b"\n", bytearray(text), memoryview(text)):
        check(model, data, scores)
    pretty = json.dumps(rows[5], indent=2).encode()
    assert same_bits(model.predict_proba(pretty), scores.probability[5:6])


def test_files_and_flows(model, rows, scores, tmp_path):
    check(model, FLOWS, scores)
    check(model, str(FLOWS), scores)
    lines = tmp_path / "flows.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    check(model, lines, scores)
    check(model, ids_py.read_flows(FLOWS), scores, n_threads=2)
    check(model, pa.table(ids_py.read_flows(FLOWS, model)), scores)
    check(model, ids_py.read_flows(FLOWS).to_pandas(), scores)


def test_features(model, rows, golden):
    """Assembled features, made here by the stages' rules: indices of the labels, numbers as they are."""
    assert model.features[3:5] != [] and len(model.features) == model.n_features_in_ == 42
    flow = dict(rows[0])
    vector = np.zeros(42)
    batch = np.tile(vector, (9, 1))
    single = model.predict_proba(vector)
    assert single.shape == (10,) and model.predict(vector) in model.labels
    assert same_bits(model.predict_proba(batch), np.tile(single, (9, 1)))
    assert same_bits(model.raw_prediction(batch.T.copy().T), np.tile(model.raw_prediction(vector), (9, 1)))
    assert same_bits(model.predict_proba(np.zeros(84)[::2]), single)
    assert len(model.score(vector)) == 1
    assert flow == rows[0]


def test_features_that_lie_anywhere(model):
    """In records, and from an odd byte on: as if they were copied."""
    values = np.random.default_rng(7).normal(0, 1000, (5, 42))
    records = np.zeros(5, dtype=[("kind", "i1"), ("features", "f8", (42,))])
    records["features"] = values
    odd = np.frombuffer(b"\0" + values.tobytes(), "u1")[1:].view("f8").reshape(5, 42)
    expected = model.raw_prediction(values)
    for array in (records["features"], odd, odd[::1], odd.T.copy().T):
        assert same_bits(model.raw_prediction(array), expected)
        for row in range(5):
            assert same_bits(model.raw_prediction(array[row]), expected[row])
            assert same_bits(model.score(array[row]).raw_prediction, expected[row : row + 1])
    assert not odd.flags.aligned and not odd[0].flags.aligned


def test_pandas_columns_that_lie_anywhere(model, rows, scores):
    records = np.zeros(100, dtype=[("kind", "i1"), ("dur", "f8")])
    records["dur"] = [row["dur"] for row in rows[:100]]
    frame = pd.DataFrame(rows[:100])
    frame["dur"] = pd.Series(records["dur"], copy=False)
    assert same_bits(model.predict_proba(frame), scores.probability[:100])


def test_columns_without_a_value(model, rows):
    """Of whatever type they are then: all missing."""
    missing = [row | {"sload": None, "service": None} for row in rows[:9]]
    expected = model.predict_proba(missing)
    frame = pd.DataFrame(rows[:9])
    for value in (None, np.nan, pd.NA):
        objects = frame.assign(sload=pd.Series([value] * 9, dtype=object), service=None)
        assert same_bits(model.predict_proba(objects), expected)
    table = pa.Table.from_pylist(rows[:9])
    for name in ("sload", "service"):
        table = table.set_column(table.schema.get_field_index(name), name, pa.nulls(9))
    lists = pl.DataFrame(rows[:9]).with_columns(
        sload=None, service=pl.lit(None), unused=None, lists=pl.lit([])
    )
    for data in (table, lists):
        assert same_bits(model.predict_proba(data), expected)


def test_twins_of_columns_that_nobody_reads(model, rows, scores):
    frame = pd.DataFrame(rows)
    table = pa.Table.from_pylist(rows)
    ids = table.column("id")
    for data in (
        pd.concat([frame, frame[["id"]]], axis=1),
        frame.assign(ID=1, attack_CAT="x"),
        table.append_column("id", ids).append_column("Id", ids),
        pl.from_arrow(table).with_columns(ID=1),
    ):
        check(model, data, scores)


def test_many_sizes_of_a_matrix(model):
    """From one row on, whichever way they are walked."""
    values = np.random.default_rng(7).normal(0, 1000, (3000, 42)).round()
    all_rows = model.raw_prediction(values, n_threads=1)
    for n in (1, 2, 4, 5, 9, 64, 255, 257, 2999):
        assert same_bits(model.raw_prediction(values[:n]), all_rows[:n])
    assert same_bits(model.raw_prediction(values, n_threads=2), all_rows)
    assert same_bits(model.raw_prediction(np.asfortranarray(values)), all_rows)
    assert same_bits(model.raw_prediction(values[::-2]), all_rows[::-2])
    assert all(same_bits(model.raw_prediction(values[row]), all_rows[row]) for row in range(50))


def test_other_names_order_and_keys(model, flow, scores):
    """Aliases, another order, unknown keys: as in JSON. `rate` is derived where it is absent."""
    renamed = {
        "sintpkt" if name == "sinpkt" else name.upper(): value for name, value in reversed(flow.items())
    }
    assert same_bits(model.predict_proba(renamed | {"colour": "red", 7: 8}), scores.probability[0])
    derived = {name: value for name, value in flow.items() if name != "rate"}
    for data in (
        [derived],
        pa.Table.from_pylist([derived]),
        pd.DataFrame([derived]),
        json.dumps(derived).encode(),
    ):
        assert same_bits(model.predict_proba(data), scores.probability[:1])
    numbers = {name: np.float32(value) if name == "sttl" else value for name, value in flow.items()}
    assert same_bits(model.predict_proba(numbers | {"swin": np.int64(flow["swin"])}), scores.probability[0])


def test_empty(model, rows):
    empty = pa.Table.from_pylist(rows[:1]).slice(0, 0)
    for data in (
        empty,
        empty.to_pandas().astype({name: object for name in CATEGORIES}),
        pd.DataFrame(columns=list(rows[0])),
        pl.from_arrow(empty),
        [],
        np.zeros((0, 42)),
    ):
        assert model.predict_proba(data).shape == (0, 10)
        assert model.predict(data).shape == (0,)
        assert len(model.score(data)) == 0
        assert pa.table(model.score(data)).num_rows == 0


def test_threads_share_a_model(model, rows, scores):
    table = pa.Table.from_pylist(rows)
    wrong = []

    def work(first):
        for row in range(first, first + 300):
            if not same_bits(model.predict_proba(rows[row]), scores.probability[row]):
                wrong.append(row)
        if not same_bits(model.predict_proba(table, n_threads=2), scores.probability):
            wrong.append(first)

    threads = [threading.Thread(target=work, args=(300 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_interpreter_is_released(model, rows):
    """Another thread has many turns while one batch is scored."""
    table = pa.concat_tables([pa.Table.from_pylist(rows)] * 20)
    counts, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counts[0] += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    # Whoever has the interpreter keeps it until it gives it away.
    sys.setswitchinterval(10)
    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counts[0]
        model.predict_proba(table, n_threads=1)
        after = counts[0]
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert after - before > 20


INTERRUPTED = f"""
import signal, sys, time
import ids_py
from ids_py._ids import score_file
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
model = ids_py.Model.load(sys.argv[2])
pipe = sys.argv[1]
START
print("runs", flush=True)
start = time.monotonic()
try:
    WORK
except KeyboardInterrupt:
    took = time.monotonic() - start
    print("interrupted" if took < 6 else f"interrupted after {{took}} s", flush=True)
else:
    print("done", flush=True)
"""


def child(start, work, path, model):
    code = INTERRUPTED.replace("START", start).replace("WORK", work)
    command = [sys.executable, "-c", code, str(path), str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "runs\n"
    return process


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_a_batch(n_threads):
    start = f"import pyarrow; flows = pyarrow.table(ids_py.read_flows({str(FLOWS)!r}))"
    start += "; flows = pyarrow.concat_tables([flows] * 200)"
    process = child(start, f"model.predict(flows, n_threads={n_threads})", "", ROOT / "models/unsw-nb15")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120)[0] == "interrupted\n"


@pytest.mark.parametrize(
    "work", ["model.predict(pipe)", "ids_py.read_flows(pipe)", "score_file(model, pipe, '/dev/null')"]
)
def test_ctrl_c_ends_reading(work, tmp_path):
    """And a signal that has a handler of another kind does not."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = child("", work, pipe, SMALL)
    lines = FLOWS.read_bytes().splitlines(keepends=True)
    with pipe.open("wb", buffering=0) as file:
        file.write(b"".join(lines[:50]))
        time.sleep(0.3)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "handled\n"
        file.write(b"".join(lines[50:100]))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted\n"
    process = child("", work, pipe, SMALL)
    with pipe.open("wb", buffering=0) as file:
        file.write(b"".join(lines[:50]))
        time.sleep(0.3)
        process.send_signal(signal.SIGUSR1)
        file.write(b"".join(lines[50:100]))
    assert process.communicate(timeout=60)[0] == "handled\ndone\n"
