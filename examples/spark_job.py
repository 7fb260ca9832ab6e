"""Score Kafka's flows inside Spark Structured Streaming, with the scorer of the detector.

    spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.1 examples/spark_job.py \\
        --model models/unsw-nb15 --checkpoint /data/checkpoints/ids

For those who run Spark anyway. Verdicts go to TOPIC.verdicts.spark, byte for byte those of the detector; what cannot be
scored goes to TOPIC.dlq.spark with its bytes and the reason, and has a marker among the verdicts. Both topics must be
there, the verdicts with as many partitions as the flows. The job can be ended at any time: offsets are in the checkpoint,
and the micro-batch that was running is said again, under the same keys, when it starts the next time. Nothing is lost.
"""

import argparse
import json
import os
import sys

from pyspark.sql import SparkSession

import ids_py.spark


def option(text):
    """Name and value of NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bootstrap-servers",
        default=os.environ.get("BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        help="brokers, host:port (or BOOTSTRAP_SERVERS)",
    )
    parser.add_argument(
        "--topic", default=os.environ.get("TOPIC", "demo"), help="topic with flows as JSON (or TOPIC)"
    )
    parser.add_argument("--verdicts", help="topic for verdicts (TOPIC.verdicts.spark)")
    parser.add_argument("--dead-letters", help="topic for what cannot be scored (TOPIC.dlq.spark)")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL"),
        required="MODEL" not in os.environ,
        help="a model file, or a directory that Spark saved (or MODEL)",
    )
    parser.add_argument(
        "--checkpoint", required=True, help="directory for offsets and commits, kept for good"
    )
    parser.add_argument("--rows-per-batch", type=int, default=60_000, help="most rows of a micro-batch")
    parser.add_argument(
        "--available-now", action="store_true", help="end when all that is there now is scored"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=option,
        metavar="NAME=VALUE",
        help="an option of Spark's Kafka source and sink, e.g. kafka.security.protocol=SASL_SSL; can be repeated",
    )
    return parser.parse_args()


def start(args, model, spark):
    """The running query."""
    options = {
        "kafka.bootstrap.servers": args.bootstrap_servers,
        "subscribe": args.topic,
        "startingOffsets": "earliest",
        "maxOffsetsPerTrigger": args.rows_per_batch,
        "includeHeaders": "true",
        **dict(args.option),
    }
    messages = spark.readStream.format("kafka").options(**options).load()
    said = ids_py.spark.verdicts(
        messages,
        model,
        verdicts=args.verdicts or f"{args.topic}.verdicts.spark",
        dead_letters=args.dead_letters or f"{args.topic}.dlq.spark",
    )
    writer = said.writeStream.format("kafka").options(**options, checkpointLocation=args.checkpoint)
    return (writer.trigger(availableNow=True) if args.available_now else writer).start()


def print_batches(query, last):
    """Prints the micro-batches after `last`; the number of the newest."""
    for batch in query.recentProgress:
        if batch["batchId"] > last and batch["numInputRows"] > 0:
            shown = ("batchId", "numInputRows", "processedRowsPerSecond", "durationMs")
            print(json.dumps({name: batch[name] for name in shown}), flush=True)
            last = batch["batchId"]
    return last


def main():
    args = arguments()
    try:
        model = ids_py.Model.load(args.model)
    except (ids_py.IdsError, OSError) as error:
        sys.exit(f"error: --model: {error}")
    spark = SparkSession.builder.appName("ids").getOrCreate()
    query = start(args, model, spark)
    last = -1
    try:
        # Raises what ended the query, if anything did.
        while not query.awaitTermination(1):
            last = print_batches(query, last)
    finally:
        print_batches(query, last)
        query.stop()
        spark.stop()


if __name__ == "__main__":
    main()
