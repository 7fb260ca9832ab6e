"""Make `spark/pipeline_basic` (a saved pipeline and Spark's output for it) and `spark/dangling_child` anew.

usage: python testdata/spark_fixture.py DIRECTORY

A pipeline of every supported stage, trained on made-up flows of three classes and given rows with missing,
NaN and unseen values. Doubles in the golden are C99 hexadecimal (`float.hex`), so they are exact. A rerun
makes an equivalent fixture, not the same bytes: Spark draws the uids of stages at random.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml import Pipeline
from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.feature import Imputer, IndexToString, StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.linalg import Vector
from pyspark.sql import SparkSession

COLUMNS = "duration double, src_bytes double, dst_bytes double, cnt double, rate double, land double, const double, "
COLUMNS += "logged_in double, proto string, service string, flag string, label string"
CLASSES = ["normal", "dos", "probe"]


def draw(rng, n_rows, with_gaps):
    """Rows of flows whose columns depend on their class; `with_gaps` puts in what serving has to survive."""
    rows = []
    for _ in range(n_rows):
        label = rng.choice(CLASSES, p=[0.6, 0.25, 0.15])
        scale = {"normal": 1.0, "dos": 30.0, "probe": 0.1}[label]
        gap = lambda value, instead: instead if with_gaps and rng.random() < 0.1 else value
        rows.append(
            (
                gap(float(rng.exponential(scale)), float("nan")),
                float(rng.integers(0, 2000) * scale),
                gap(float(rng.exponential(500) * scale), None),
                float(rng.integers(0, 511)),
                float(rng.random()),
                float(rng.random() < 0.02),
                3.25,
                float(rng.random() < 0.5),
                gap(str(rng.choice(["tcp", "udp", "icmp"])), "sctp"),
                gap(str(rng.choice(["http", "dns", "smtp", "ftp"])), None),
                str(rng.choice(["SF", "S0", "REJ"])),
                str(label),
            )
        )
    return rows


def exact(cell):
    """A cell as JSON that loses nothing."""
    if isinstance(cell, Vector):
        return {"t": "dense", "v": [float(x).hex() for x in cell.toArray()]}
    return cell.hex() if isinstance(cell, float) else cell


def main(directory):
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rng = np.random.default_rng(7)
    train = spark.createDataFrame(draw(rng, 600, False), COLUMNS).coalesce(1)
    test = spark.createDataFrame(draw(rng, 200, True), COLUMNS).coalesce(1).drop("label")

    label = StringIndexer(inputCol="label", outputCol="label_i").fit(train)
    inputs = ["proto_i", "service_i", "duration_f", "src_bytes", "dst_bytes_f", "cnt", "rate", "land", "const", "logged_in"]
    stages = [
        label,
        StringIndexer(inputCol="proto", outputCol="proto_i", handleInvalid="keep"),
        StringIndexer(inputCol="service", outputCol="service_i", handleInvalid="keep"),
        Imputer(inputCols=["duration", "dst_bytes"], outputCols=["duration_f", "dst_bytes_f"]),
        VectorAssembler(inputCols=inputs, outputCol="raw_features"),
        StandardScaler(inputCol="raw_features", outputCol="features"),
        RandomForestClassifier(labelCol="label_i", featuresCol="features", numTrees=20, maxDepth=6, seed=7),
        IndexToString(inputCol="prediction", outputCol="predicted_label", labels=label.labels),
    ]
    model = Pipeline(stages=stages).fit(train)
    saved = directory / "pipeline_basic"
    model.write().overwrite().save(str(saved))
    scored = model.transform(test)
    with open(directory / "pipeline_basic.golden.jsonl", "w") as golden:
        for row in scored.collect():
            golden.write(json.dumps({name: exact(row[name]) for name in scored.columns}) + "\n")

    dangling = directory / "dangling_child"
    shutil.rmtree(dangling, ignore_errors=True)
    shutil.copytree(saved, dangling)
    for part in dangling.glob("stages/*RandomForest*/data/*.parquet"):
        table = pq.read_table(part)
        rows = table.to_pylist()
        for row in rows:
            if row["treeID"] == 3 and row["nodeData"]["id"] == 0:
                row["nodeData"]["rightChild"] = 99
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
