"""ids_py.spark, inside a real Spark."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from pyspark.errors import PythonException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.feature import IndexToString, StringIndexer, VectorAssembler
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

import ids_py
import ids_py.spark
from conftest import CATEGORIES, FLOWS, SMALL, bits

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")


@pytest.fixture(scope="module")
def spark():
    # Else whatever `python3` is.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder
    # With SPARK_REMOTE=local[2] the tests go through a Spark Connect server of their own.
    session = (
        (builder if "SPARK_REMOTE" in os.environ else builder.master("local[2]"))
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    if "SPARK_REMOTE" not in os.environ:
        session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def schema(model):
    with FLOWS.open() as file:
        names = file.readline().strip().split(",")
    texts = {*CATEGORIES, "attack_cat"}
    return StructType([StructField(name, StringType() if name in texts else DoubleType()) for name in names])


@pytest.fixture(scope="module")
def flows(spark, schema):
    return spark.read.csv(str(FLOWS), header=True, schema=schema, mode="FAILFAST")


@pytest.fixture(scope="module")
def pipeline(spark):
    return PipelineModel.load(str(SMALL))


@pytest.fixture(scope="module")
def choosy(spark, flows, tmp_path_factory):
    """A pipeline that drops unknown protocols and refuses missing durations."""
    stages = [
        StringIndexer(inputCol="attack_cat", outputCol="class"),
        StringIndexer(inputCol="proto", outputCol="proto_index", handleInvalid="skip"),
        VectorAssembler(
            inputCols=["dur", "spkts", "proto_index"], outputCol="features", handleInvalid="error"
        ),
        RandomForestClassifier(labelCol="class", numTrees=3, maxDepth=4, maxBins=256, seed=7),
    ]
    fitted = Pipeline(stages=stages).fit(flows)
    labels = fitted.stages[0].labels
    # Without the indexer of the label, which nobody has when flows are scored.
    named = IndexToString(inputCol="prediction", outputCol="verdict", labels=labels)
    saved = PipelineModel([*fitted.stages[1:], named])
    path = tmp_path_factory.mktemp("choosy") / "model"
    saved.write().save(str(path))
    return saved, ids_py.Model.from_spark(path)


def collected(frame, *names):
    """Bits of the doubles of some columns, and other values as they are, by row."""
    rows = frame.select(*names).collect()
    by_name = {name: [row[name] for row in rows] for name in names}
    doubles = {
        name: bits(np.array([v.toArray() if hasattr(v, "toArray") else v for v in values], float)).tolist()
        for name, values in by_name.items()
        if not isinstance(values[0], str)
    }
    return by_name | doubles


def test_transform_adds_what_spark_adds(flows, model, pipeline):
    ours, theirs = ids_py.spark.transform(flows, model), pipeline.transform(flows)
    added = [name for name in ours.columns if name not in flows.columns]
    assert added == ["rawPrediction", "probability", "prediction", "predicted_cat"]
    assert [ours.schema[name].dataType for name in added] == [theirs.schema[name].dataType for name in added]
    assert ours.columns[: len(flows.columns)] == flows.columns
    names = ["id", *added]
    assert collected(ours, *names) == collected(theirs, *names)


def test_transform_says_what_the_model_says(flows, model, scores):
    ours = collected(ids_py.spark.transform(flows, model), "rawPrediction", "predicted_cat")
    assert ours["rawPrediction"] == bits(scores.raw_prediction).tolist()
    assert ours["predicted_cat"] == scores.label.tolist()


def test_rows_that_a_stage_drops_are_dropped_as_in_spark(flows, choosy):
    theirs, model = choosy
    some = flows.limit(500).withColumn(
        "proto", F.when(F.col("id") % 5 == 0, "none").otherwise(F.col("proto"))
    )
    ours = ids_py.spark.transform(some, model)
    names = ["id", "rawPrediction", "probability", "prediction", "verdict"]
    assert ours.columns == [*some.columns, *names[1:]]
    assert ours.count() == 400
    assert collected(ours, *names) == collected(theirs.transform(some), *names)
    found = ids_py.spark.verify(some, model, theirs)
    assert found.equal and (found.rows, found.rows_here) == (400, 400), str(found)


def test_a_row_that_a_stage_refuses_fails_the_job_as_in_spark(flows, choosy):
    theirs, model = choosy
    some = flows.limit(20).withColumn("dur", F.when(F.col("id") != 7, F.col("dur")))
    with pytest.raises(Exception, match="(?s)handleInvalid|null"):
        theirs.transform(some).collect()
    with pytest.raises(PythonException, match="RowError: a row has no score: .*dur"):
        ids_py.spark.transform(some, model).collect()


def test_no_row_is_lost_where_errors_become_nulls(flows, choosy):
    _, model = choosy
    some = flows.limit(20).withColumn("dur", F.when(F.col("id") != 7, F.col("dur")))
    some = some.withColumn("proto", F.when(F.col("id") != 9, F.col("proto")).otherwise("none"))
    rows = {row["id"]: row for row in ids_py.spark.transform(some, model, errors="null").collect()}
    assert len(rows) == 20
    refused, dropped = rows[7.0], rows[9.0]
    for row, outcome, column in ((refused, "refused", "dur"), (dropped, "dropped", "proto")):
        assert row["rawPrediction"] is row["probability"] is row["prediction"] is row["verdict"] is None
        assert (row["fault"]["outcome"], row["fault"]["column"]) == (outcome, column)
        assert row["fault"]["stage"] and row["fault"]["detail"]
    assert all(row["fault"] is None and row["verdict"] for id, row in rows.items() if id not in (7.0, 9.0))


def test_dropped_rows_outside_of_spark(choosy, rows):
    _, model = choosy
    unknown, known = rows[0] | {"proto": "none"}, rows[1]
    scores = model.score([unknown, known])
    assert scores.scored.tolist() == [False, True]
    assert (scores.faults[0].outcome, scores.faults[0].column) == ("dropped", "proto")
    with pytest.raises(ids_py.RowError) as caught:
        model.predict(unknown)
    assert caught.value.outcome == "dropped"


def test_other_columns_may_go_by_any_name(spark, flows, model, scores):
    """As the check on the driver, the executors look only at what the model takes."""
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        some = flows.limit(50).withColumn("ID", F.lit(7)).withColumn("Sintpkt", F.lit("no number"))
        found = collected(ids_py.spark.transform(some, model), "rawPrediction")
    finally:
        spark.conf.unset("spark.sql.caseSensitive")
    assert found["rawPrediction"] == bits(scores.raw_prediction[:50]).tolist()


def test_an_empty_table_and_empty_partitions(flows, model):
    assert ids_py.spark.transform(flows.where("id < 0"), model).count() == 0
    assert ids_py.spark.transform(flows.limit(3).repartition(8), model).count() == 3


@pytest.mark.parametrize(
    "change, column, message",
    [
        (lambda df: df.drop("dur"), "dur", "dur"),
        (lambda df: df.withColumn("dur", F.lit("long")), "dur", "number"),
        (lambda df: df.withColumn("proto", F.lit(6.0)), "proto", "text"),
        (lambda df: df.withColumn("prediction", F.lit(1.0)), "prediction", "already"),
        (lambda df: df.withColumn("fault", F.lit(1.0)), "fault", "already"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(flows, model, change, column, message):
    with pytest.raises(ids_py.SchemaMismatch, match=message) as caught:
        ids_py.spark.transform(change(flows), model, errors="null")
    assert column in caught.value.columns
    with pytest.raises(ValueError, match="errors"):
        ids_py.spark.transform(flows, model, errors="ignore")


def test_structured_streaming(spark, schema, model, scores, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(FLOWS, tmp_path / "in")
    stream = spark.readStream.csv(str(tmp_path / "in"), header=True, schema=schema)
    query = (
        ids_py.spark.transform(stream, model)
        .writeStream.format("memory")
        .queryName("scored")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert query.awaitTermination(120)
    found = collected(spark.table("scored"), "id", "probability")
    # The file may come in several partitions.
    by_id = dict(
        zip(bits(np.array(range(1, 9001), float)).tolist(), bits(scores.probability).tolist(), strict=True)
    )
    assert len(found["id"]) == 9000
    assert all(by_id[id] == values for id, values in zip(found["id"], found["probability"], strict=True))


def kafka_messages(spark, values):
    """What Spark's Kafka source gives for some values."""
    rows = [
        (b"k", bytes(v) if v is not None else None, "demo", 2, i, [("ids.label", b"x"), ("own", b"y")])
        for i, v in values
    ]
    types = "key binary, value binary, topic string, partition int, offset long, headers array<struct<key:string,value:binary>>"
    frame = spark.createDataFrame(rows, types)
    return frame.withColumn("timestamp", F.timestamp_millis(F.lit(1_700_000_000_000)))


def test_verdicts_says_what_a_detector_says(spark, model, rows):
    flow = {name: rows[0][name] for name in model.inputs}
    good, huge = json.dumps(flow).encode(), b"[" * 1_000_000
    messages = kafka_messages(spark, enumerate([good, None, b"", b'{"dur": true}', huge]))
    said = ids_py.spark.verdicts(messages, model, verdicts="v", dead_letters="d").collect()
    verdicts, dead = [m for m in said if m["topic"] == "v"], [m for m in said if m["topic"] == "d"]
    assert len(verdicts) == 5 and len(dead) == 4
    assert [bytes(m["key"]) for m in verdicts] == [f"demo/2/{i}".encode() for i in range(5)]
    assert all(m["partition"] == 2 for m in verdicts) and all(m["partition"] is None for m in dead)
    verdict, *markers = [json.loads(bytes(m["value"])) for m in verdicts]
    assert verdict["class"] == model.predict(flow) and verdict["model"] == model.version
    assert verdict["origin"] == {
        "topic": "demo",
        "partition": 2,
        "offset": 0,
        "timestamp_ms": 1_700_000_000_000,
    }
    assert list(verdict["probabilities"].values()) == model.predict_proba(flow).tolist()
    assert [marker["dead_letter"] for marker in markers] == ["tombstone", "empty", "wrong_type", "syntax"]
    assert [[h["key"] for h in m["headers"]] for m in verdicts] == [["ids.label"]] * 5
    for message, marker in zip(dead, markers, strict=True):
        headers = {h["key"]: bytes(h["value"]).decode() for h in message["headers"]}
        assert headers["own"] == "y" and headers["ids.kind"] == marker["dead_letter"]
        assert bytes(message["key"]) == b"k"
    assert dead[0]["value"] is None and bytes(dead[2]["value"]) == b'{"dur": true}'
    cut = {h["key"]: bytes(h["value"]) for h in dead[3]["headers"]}
    assert len(dead[3]["value"]) == 262_144 and cut["ids.cut_from_bytes"] == b"1000000"


def test_verdicts_without_headers_or_messages(spark, model):
    messages = kafka_messages(spark, [(0, b"x")])
    assert ids_py.spark.verdicts(messages.drop("headers"), model).count() == 2
    assert ids_py.spark.verdicts(messages.where("offset > 7"), model).count() == 0
    with pytest.raises(ids_py.SchemaMismatch, match="no column `offset`"):
        ids_py.spark.verdicts(messages.drop("offset"), model)


def test_verify_proves_that_nothing_differs(flows, model, pipeline):
    found = ids_py.spark.verify(flows, model, pipeline)
    assert found.equal and found.first is None, str(found)
    assert found.rows == found.rows_here == 9000
    assert found.doubles == 9000 * (10 + 10 + 1) and found.differing_doubles == 0
    assert found.columns == ("rawPrediction", "probability", "prediction", "predicted_cat")
    assert str(found).startswith("equal to the bit: 9000 rows")


def test_verify_finds_a_bit_that_differs(flows, model, pipeline):
    class OneBitOff:
        """Spark's pipeline, but for the last bit of one probability of one row."""

        def transform(self, df):
            from pyspark.ml.functions import array_to_vector, vector_to_array

            scored = pipeline.transform(df).withColumn("values", vector_to_array("probability"))
            off = F.transform(
                "values", lambda x, i: F.when((F.col("id") == 17) & (i == 0), x + x * 2.0**-52).otherwise(x)
            )
            return scored.withColumn("probability", array_to_vector(off)).drop("values")

    found = ids_py.spark.verify(flows, model, OneBitOff())
    assert not found.equal
    assert (found.differing_doubles, found.differing_rows) == (1, 1)
    assert "probability of" in found.first and "NOT equal" in str(found)


def test_verify_finds_rows_that_are_missing(flows, model, pipeline):
    class OneRowLess:
        def transform(self, df):
            return pipeline.transform(df).where("id != 17")

    found = ids_py.spark.verify(flows, model, OneRowLess())
    assert not found.equal and (found.rows, found.rows_here) == (8999, 9000)
    assert "Spark gives 8999 rows, ids 9000" in str(found) and "None" not in str(found)


def test_verify_of_no_rows_proves_nothing(flows, model, pipeline):
    found = ids_py.spark.verify(flows.where("id < 0"), model, pipeline)
    assert not found.equal and str(found).startswith("nothing was compared")
