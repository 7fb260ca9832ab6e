"""Spark Structured Streaming in the detector's place: flows of a Kafka topic in, verdicts of a saved model out.

    python benches/compare/stream_job.py --bootstrap-servers HOST:PORT --topic demo --verdicts demo.verdicts
                                         --model models/unsw-nb15 --jars target/spark-kafka --checkpoint DIR

As a good Spark job does it: typed columns, the pipeline as it was saved, checkpoints, one core. A verdict is a JSON
object with origin, prediction and probabilities; its key is topic/partition/offset of the flow. It runs until SIGTERM,
and prints what Spark says of each micro-batch.
"""

import argparse
import json
import signal
import sys
import threading
import tomllib
from pathlib import Path

from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

SCHEMA = Path(__file__).parents[2] / "ids-core/src/schema/unsw-nb15.toml"
TYPES = {"number": DoubleType(), "category": StringType()}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bootstrap-servers", required=True, help="brokers, host:port")
    parser.add_argument("--topic", default="demo", help="topic with flows as JSON")
    parser.add_argument("--verdicts", default="demo.verdicts", help="topic for the verdicts")
    parser.add_argument("--model", type=Path, required=True, help="directory of a saved PipelineModel")
    parser.add_argument("--jars", type=Path, required=True, help="directory of the Kafka connector's jars")
    parser.add_argument("--checkpoint", type=Path, required=True, help="directory for offsets and commits")
    parser.add_argument("--rows-per-trigger", type=int, default=60_000, help="most rows of a micro-batch")
    return parser.parse_args()


def start_spark(jars):
    """A local session of one core and 3 GB."""
    jars = sorted(map(str, jars.glob("*.jar")))
    if not jars:
        sys.exit("--jars: there is no jar of the Kafka connector; `make compare-stream` gets them")
    return (
        SparkSession.builder.master("local[1]")
        .appName("ids-compare-stream")
        .config("spark.driver.memory", "3g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.jars", ",".join(jars))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )


def flow_type():
    """The columns of a flow that a model may read, as they were trained: doubles and strings."""
    columns = tomllib.loads(SCHEMA.read_text())["columns"]
    return StructType([StructField(c["name"], TYPES[c["kind"]]) for c in columns if c["kind"] in TYPES])


def verdicts_of(messages, model):
    """Key and value of a verdict for each message, shape [n_messages]."""
    origin = F.struct("topic", "partition", "offset").alias("origin")
    flow = F.from_json(F.col("value").cast("string"), flow_type()).alias("flow")
    scored = model.transform(messages.select(origin, flow).select("origin", "flow.*"))
    verdict = F.struct("origin", "prediction", vector_to_array("probability").alias("probability"))
    key = F.concat_ws("/", "origin.topic", "origin.partition", "origin.offset")
    return scored.select(key.alias("key"), F.to_json(verdict).alias("value"))


def print_batches(query, last):
    """Prints the micro-batches after `last`; the number of the newest."""
    for batch in query.recentProgress:
        if batch["batchId"] > last and batch["numInputRows"] > 0:
            said = {
                name: batch[name]
                for name in ("batchId", "numInputRows", "processedRowsPerSecond", "durationMs")
            }
            print(json.dumps(said), flush=True)
            last = batch["batchId"]
    return last


def main():
    args = arguments()
    # Only noted: an exception would come in the midst of an exchange with the JVM.
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ends.set())
    spark = start_spark(args.jars)
    spark.sparkContext.setLogLevel("WARN")
    kafka = {"kafka.bootstrap.servers": args.bootstrap_servers}
    messages = (
        spark.readStream.format("kafka")
        .options(
            **kafka,
            subscribe=args.topic,
            startingOffsets="earliest",
            maxOffsetsPerTrigger=args.rows_per_trigger,
        )
        .load()
    )
    verdicts = verdicts_of(messages, PipelineModel.load(str(args.model)))
    query = (
        verdicts.writeStream.format("kafka")
        .options(**kafka, topic=args.verdicts, checkpointLocation=str(args.checkpoint))
        .start()
    )
    last = -1
    try:
        while not query.awaitTermination(1) and not ends.is_set():
            last = print_batches(query, last)
    finally:
        print_batches(query, last)
        query.stop()
        spark.stop()


if __name__ == "__main__":
    main()
