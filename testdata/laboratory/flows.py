"""Train the pipeline of the committed models on real flows and let Spark score all of them.

    python testdata/laboratory/flows.py OUTPUT_DIRECTORY [--name unsw-nb15-small] [--data DIRECTORY]

Writes OUTPUT_DIRECTORY/model, as Spark saves it, and OUTPUT_DIRECTORY/expected, Parquet with what it returned.
`ids verify --model OUTPUT_DIRECTORY/model --expected OUTPUT_DIRECTORY/expected` then compares every double.
Any version of PySpark from 3.0 on will do: the one that runs this trains and scores.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main():
    """Train, save, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="where the model and Spark's output go")
    parser.add_argument("--name", default="unsw-nb15-small", help="whose settings (default: %(default)s)")
    parser.add_argument("--data", help="directory that contains unsw-nb15/flows.csv (default: IDS_DATA)")
    arguments = parser.parse_args()

    sys.path.insert(0, str(ROOT / "models"))
    import train
    path = train.find_flows(arguments.data)
    spark = train.start_spark()
    spark.sparkContext.setLogLevel("ERROR")
    flows = train.read_flows(spark, path)
    print(f"training {arguments.name} with Spark {spark.version}", flush=True)
    model, _ = train.fit(train.only(flows, "train"), train.MODELS[arguments.name])
    train.save(model, arguments.out / "model")
    model.transform(flows).write.mode("overwrite").parquet(str(arguments.out / "expected"))
    print(f"{flows.count():,} flows scored by Spark {spark.version}", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
