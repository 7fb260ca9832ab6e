"""How long does Spark take with ids_py in place of its own pipeline? Both inside the same Spark, on the same rows.

UNSW-NB15's flows (those of IDS_DATA, or else the synthetic ones, repeated) lie in Spark's memory; models/unsw-nb15 scores
them from their raw columns, once as the saved PipelineModel does and once by ids_py.spark.transform. Spark is local[1],
and everything, the Python worker too, has one core. That both say the same, to the bit, is checked first.
`make compare-python` runs it.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from python import ROOT, processor

ROWS, ROUNDS = 60_000, 5
MODEL = ROOT / "models/unsw-nb15"


def read_flows(spark):
    """ROWS flows, typed, in Spark's memory; and what they are."""
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType

    import ids_py

    real = Path(os.environ.get("IDS_DATA", "/nowhere")) / "unsw-nb15/flows.csv"
    path = real if real.is_file() else ROOT / "testdata/synthetic-unsw-nb15.csv"
    kinds = {column["name"]: column["kind"] for column in ids_py.Schema("unsw-nb15").columns}
    header = path.open(encoding="utf-8-sig").readline().strip().split(",")
    types = [StructField(n, DoubleType() if kinds.get(n) == "number" else StringType()) for n in header]
    flows = spark.read.csv(str(path), header=True, schema=StructType(types), mode="FAILFAST")
    while flows.count() < ROWS:
        flows = flows.union(flows)
    flows = flows.limit(ROWS).repartition(4).cache()
    flows.count()
    return flows, "real" if path == real else "synthetic"


def session(memory="3g"):
    """Spark with one core."""
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.driver.memory", memory)
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def seconds(frame):
    """How long it takes to compute all of a frame."""
    start = time.perf_counter()
    frame.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    options = parser.parse_args()
    # Before anything starts threads or processes of its own.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["PYSPARK_PYTHON"] = sys.executable

    from pyspark.ml import PipelineModel

    import ids_py.spark

    spark = session()
    flows, kind = read_flows(spark)
    pipeline, model = PipelineModel.load(str(MODEL)), ids_py.Model.from_spark(MODEL)
    proof = ids_py.spark.verify(flows, model, pipeline)
    if not proof.equal:
        sys.exit(str(proof))
    print(proof, flush=True)

    names = ["id", *(name for name in model.output_columns.values() if name)]
    cases = {
        "Spark's pipeline": lambda: pipeline.transform(flows).select(names),
        "ids_py.spark.transform": lambda: ids_py.spark.transform(
            flows.select("id", *model.inputs), model
        ).select(names),
    }
    all_seconds = {case: [] for case in cases}
    # The first round is passed over: the JVM compiles.
    for _ in range(1 + ROUNDS):
        for case, frame in cases.items():
            all_seconds[case].append(seconds(frame()))
    medians = {case: statistics.median(values[1:]) for case, values in all_seconds.items()}
    theirs, ours = medians.values()
    figures = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "spark": spark.version},
        "load_1min": os.getloadavg()[0],
        "rows": ROWS,
        "flows": kind,
        "model": MODEL.name,
        "median_seconds": medians,
        "all_seconds": all_seconds,
        "spark_over_ids": theirs / ours,
    }
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{processor()}, one of {os.cpu_count()} cores, {ROWS} {kind} flows, medians of {ROUNDS}")
    for case, median in medians.items():
        print(f"{case:40}{1e6 * median / ROWS:10.1f} us a row")
    print(f"ids_py.spark.transform is {theirs / ours:.1f} times as fast (at least 2 is wanted)")
    spark.stop()


if __name__ == "__main__":
    main()
