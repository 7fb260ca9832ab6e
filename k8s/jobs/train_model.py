"""Train a model on the Spark pods, prove that it is scored as Spark scores it, and publish it.

    spark-submit train_model.py [--model unsw-nb15] [--flows /data/flows.csv]

The pipeline is that of models/train.py. It is published, as one file that the detectors watch, only if `ids verify` finds
every double of the test part equal to Spark's. Flows that were not uploaded are those of the image, which are synthetic.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

import train

UPLOADED = Path("/data/flows.csv")
SYNTHETIC = Path("/usr/share/ids/synthetic-unsw-nb15.csv")
# An executor has a heap of 1 GiB; the default of the training on one machine would take all of it.
MAX_MEMORY_MB = 256


def run(*command):
    """Runs a program, and ends where it fails."""
    print("+", *command, flush=True)
    code = subprocess.run(list(map(str, command)), check=False).returncode
    if code != 0:
        sys.exit(f"error: {command[0]} {command[1]} ended with {code}; the model before serves on")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(train.MODELS), default="unsw-nb15", help="whose settings")
    parser.add_argument(
        "--flows", type=Path, help=f"flows with classes, CSV ({UPLOADED}, else synthetic ones)"
    )
    parser.add_argument("--out", type=Path, default=Path("/data/models"), help="where Spark saves the model")
    parser.add_argument(
        "--publish", type=Path, default=Path("/models/model.ids"), help="the file that serves"
    )
    args = parser.parse_args()

    path = args.flows or (UPLOADED if UPLOADED.is_file() else SYNTHETIC)
    print(f"flows: {path}{' (synthetic: none were uploaded)' if path == SYNTHETIC else ''}", flush=True)
    train.check_columns(path)
    spark = SparkSession.builder.appName("ids-train").getOrCreate()
    spark.conf.set("spark.sql.files.maxPartitionBytes", "2m")
    flows = train.read_flows(spark, path)
    # Executors write there too, as the same user.
    args.out.mkdir(parents=True, exist_ok=True)
    train.train(flows, args.model, args.out, MAX_MEMORY_MB)

    saved, expected = args.out / args.model, args.out / f"{args.model}.expected"
    scored = PipelineModel.load(str(saved)).transform(train.only(flows, "test"))
    scored.write.mode("overwrite").parquet(str(expected))
    spark.stop()

    run("ids", "verify", "--model", saved, "--expected", expected)
    run("ids", "import", saved, args.publish)
    print(f"published: {args.publish}", flush=True)


if __name__ == "__main__":
    main()
