"""Flows of several data sets: schemas by name, columns that are there twice or are another data set's."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ids_py
from conftest import ROOT, SMALL, same_bits
from ids_py import SchemaMismatch

BUILT_IN = ("unsw-nb15", "cicflowmeter", "cicflowmeter-python", "nsl-kdd")


@pytest.mark.parametrize("name", BUILT_IN)
def test_schemas_are_found_by_name(name):
    schema = ids_py.Schema(name)
    assert schema.name == name and schema.label and len(schema.columns) > 40


def test_a_file_of_cicflowmeter(tmp_path):
    path = tmp_path / "friday.csv"
    header = " Flow Duration, Fwd Header Length,Flow Bytes/s, Fwd Header Length, Label"
    rows = [
        "3,20,Infinity,20,PortScan",
        header,
        ",,,,",
        "-1,40,NaN,40,Web Attack \x96 XSS",
        "fast,1,1,1,BENIGN",
    ]
    path.write_bytes("\r\n".join([header, *rows]).encode("latin-1"))
    flows = ids_py.read_flows(path, "cicflowmeter")
    frame = flows.to_pandas()
    assert list(frame["flow_duration"]) == [3, -1] and list(frame["fwd_header_len"]) == [20, 40]
    assert frame["flow_bytes_per_s"].iloc[0] == float("inf")
    assert list(frame["label"]) == ["PortScan", "Web Attack \u2013 XSS"]


@pytest.fixture(scope="module")
def strict():
    """The small model, with a column that may be there twice and one that tells of another data set."""
    text = (ROOT / "ids-core/src/schema/unsw-nb15.toml").read_text()
    text = text.replace('name = "dur"\n', 'name = "dur"\naliases = ["dur.1"]\nrepeated = true\n')
    schema = ids_py.Schema.from_toml(text + '[foreign]\nseconds = "it is in seconds"\n')
    return ids_py.Model.from_spark(SMALL, schema=schema)


WAYS_IN = (lambda rows: rows, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist)


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_a_column_that_may_be_there_twice_counts_once(strict, rows, scores, way_in):
    twice = [row | {"dur.1": -7.0} for row in rows[:9]]
    assert same_bits(strict.predict_proba(way_in(twice)), scores.probability[:9])


@pytest.mark.parametrize("way_in", WAYS_IN[1:])
def test_tables_of_another_data_set_are_refused(strict, rows, way_in):
    with pytest.raises(
        SchemaMismatch, match="`Seconds` tells of another data set: it is in seconds"
    ) as caught:
        strict.predict(way_in([row | {"Seconds": 1.0} for row in rows[:2]]))
    assert caught.value.columns == ("Seconds",)


def test_records_of_another_data_set_are_refused(strict, rows):
    flows = [rows[0], rows[1] | {"seconds": 1.0}, rows[2]]
    scores = strict.score(flows)
    assert list(scores.scored) == [True, False, True]
    assert "another data set" in str(scores.faults)
