"""Score a CSV of flows with a saved Spark model and record what Spark answered, to the bit.

    python testdata/spark_golden.py --model models/unsw-nb15 --input flows.csv --output OUT.json
                                    [--rows OUT.jsonl --limit N]

OUT.json holds a SHA-256 per output column over the little-endian f64 bytes of all rows, in input order and
row-major, and the metrics that Spark computes. OUT.jsonl holds the first N rows as hexadecimal bit patterns,
to find the row and the class in which another scorer differs. Neither holds any input, so both may be kept
where the flows may not. Over flows that the model was trained on, the metrics say nothing about its quality.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.mllib.evaluation import MulticlassMetrics
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

TEXT_COLUMNS = {"proto", "service", "state", "attack_cat"}
NORMAL = "Normal"


def start_spark():
    """A local session that reads a file of usual size as one partition, which keeps the order of its rows."""
    return (
        SparkSession.builder.master("local[2]")
        .appName("ids-golden")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.files.maxPartitionBytes", "1g")
        .config("spark.sql.files.openCostInBytes", "1g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )


def read_flows(spark, path):
    """The flows in file order; every number a double, as the models were trained."""
    if not path.is_file():
        sys.exit(f"{path} not found: --input names a CSV of flows with a header")
    header = path.open(encoding="utf-8-sig").readline().strip().split(",")
    columns = [StructField(name, StringType() if name in TEXT_COLUMNS else DoubleType()) for name in header]
    flows = spark.read.csv(str(path), header=True, schema=StructType(columns), mode="FAILFAST")
    assert flows.rdd.getNumPartitions() == 1, "several partitions: raise spark.sql.files.maxPartitionBytes"
    return flows


def sha256_of(array):
    """The SHA-256 of an array's little-endian f64 bytes, row-major."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<f8").tobytes()).hexdigest()


def bit_patterns(vector):
    """The doubles of a vector as 16 hexadecimal digits each."""
    return [f"{bits:016x}" for bits in np.asarray(vector, dtype="<f8").view("<u8").tolist()]


def spark_metrics(spark, predicted, actual, classes):
    """Spark's own figures; a class without a flow counts as 0."""
    pairs = spark.sparkContext.parallelize(zip(predicted.tolist(), actual.tolist()), 1).cache()
    metrics = MulticlassMetrics(pairs)
    cells = pairs.countByValue()
    indices = [float(i) for i in range(len(classes))]
    confusion = [[cells.get((column, row), 0) for column in indices] for row in indices]

    def of_class(i):
        # Spark raises on a label that no row has.
        support = sum(confusion[i])
        measure = (metrics.precision, metrics.recall, metrics.fMeasure)
        precision, recall, f1 = (of(float(i)) for of in measure) if support else (0.0, 0.0, 0.0)
        return {"class": classes[i], "precision": precision, "recall": recall, "f1": f1, "support": support}

    per_class = [of_class(i) for i in range(len(classes))]
    normal = classes.index(NORMAL)
    return {
        "accuracy": metrics.accuracy,
        "macro_f1": sum(line["f1"] for line in per_class) / len(classes),
        "false_alarm_rate": 1.0 - per_class[normal]["recall"] if per_class[normal]["support"] else 0.0,
        "per_class": per_class,
        "confusion": confusion,
    }


def main():
    """Score, hash, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a saved PipelineModel")
    parser.add_argument("--input", type=Path, required=True, help="CSV of flows with a header")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    parser.add_argument("--rows", type=Path, help="JSON lines to write, the first rows in full")
    parser.add_argument("--limit", type=int, default=1000, help="rows in --rows (default: %(default)s)")
    arguments = parser.parse_args()
    if not (arguments.model / "metadata").is_dir():
        sys.exit(f"{arguments.model} is not a saved Spark model: it has no metadata/")

    spark = start_spark()
    spark.sparkContext.setLogLevel("ERROR")
    model = PipelineModel.load(str(arguments.model))
    classes = model.stages[0].labels

    print(f"scoring {arguments.input.name} with {arguments.model.name}", flush=True)
    columns = "rawPrediction", "probability", "prediction", "label_index"
    scored = model.transform(read_flows(spark, arguments.input)).select(*columns).collect()
    raw = np.array([row.rawPrediction.toArray() for row in scored])
    probability = np.array([row.probability.toArray() for row in scored])
    predicted = np.array([row.prediction for row in scored])
    actual = np.array([row.label_index for row in scored])

    golden = {
        "spark_version": spark.version,
        "model": arguments.model.name,
        "rows": len(scored),
        "classes": classes,
        "sha256": {
            "raw_prediction": sha256_of(raw),
            "probability": sha256_of(probability),
            "prediction": sha256_of(predicted),
        },
        "metrics": spark_metrics(spark, predicted, actual, classes),
    }
    arguments.output.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    if arguments.rows:
        with arguments.rows.open("w", encoding="utf-8", newline="\n") as file:
            for r, p, y in zip(raw[: arguments.limit], probability, predicted):
                line = {"raw": bit_patterns(r), "probability": bit_patterns(p), "prediction": float(y)}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
    metrics = golden["metrics"]
    print(
        f"{len(scored):,} rows, accuracy {metrics['accuracy']:.4f}, macro-F1 {metrics['macro_f1']:.4f}",
        flush=True,
    )
    spark.stop()


if __name__ == "__main__":
    main()
