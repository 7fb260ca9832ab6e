"""The parity laboratory: random pipelines, trained and run by Spark on hard rows, against `ids verify`.

    python testdata/laboratory/lab.py --ids target/debug/ids --out target/parity --models 12

Draws pipelines (seeded), trains each with the PySpark that runs this, lets it transform rows made to be hard, and
has `ids verify` compare every double of every column. Rows on which Spark fails must be refused, rows that Spark
drops must be dropped. Prints what was covered and one line of totals; the exit code is 1 on any difference, and
with --require-coverage also where a stage, a handleInvalid mode or a row outcome was never met.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pipelines
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rows
from pyspark import __version__ as spark_version
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

VERSION = tuple(int(number) for number in spark_version.split(".")[:2])
VECTORS = T.StructType([T.StructField("row_id", T.LongType()), T.StructField("features", VectorUDT())])
TRAINING_VECTORS = T.StructType(
    [T.StructField("features", VectorUDT())]
    + [T.StructField(name, T.DoubleType()) for name in ("class", "target", "weight")]
)
# Each row on which Spark fails costs several jobs to find.
MOST_FAILING = 3
CODECS = ["snappy", "none", "gzip", "zstd"]


def start_spark(gzip):
    """A local session without what costs time on small data; `gzip` packs the metadata that it saves."""
    builder = (
        SparkSession.builder.master("local[2]")
        .appName("ids-parity")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.default.parallelism", "1")
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.driver.memory", "3g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
    )
    if gzip:
        name = "spark.hadoop.mapreduce.output.fileoutputformat.compress"
        builder = builder.config(name, "true").config(
            f"{name}.codec", "org.apache.hadoop.io.compress.GzipCodec"
        )
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


class Case:
    """A pipeline with the rows that Spark was given, what it made of them, and on which it failed."""

    def __init__(self, directory):
        self.directory, self.counts, self.failed, self.n_rows = directory, [], set(), 0

    @property
    def model(self):
        return self.directory / "model"


def frame(spark, tuples, schema):
    """A DataFrame of one partition, with a second label for boosted trees."""
    made = spark.createDataFrame(tuples, schema).coalesce(1)
    return made.withColumn("binary", F.col("class") % 2) if "class" in made.columns else made


def save(spark, rng, model, case):
    """Saves the model in one of the ways in which Spark can."""
    codec, legacy, most = rng.choice(CODECS), rng.random() < 0.2, rng.choice([0, 0, 7])
    spark.conf.set("spark.sql.parquet.compression.codec", codec)
    spark.conf.set("spark.sql.parquet.writeLegacyFormat", str(legacy).lower())
    spark.conf.set("spark.sql.files.maxRecordsPerFile", str(most))
    model.write().overwrite().save(str(case.model))
    for name in ("compression.codec", "writeLegacyFormat"):
        spark.conf.unset(f"spark.sql.parquet.{name}")
    spark.conf.set("spark.sql.files.maxRecordsPerFile", "0")


def failing(spark, model, tuples, schema):
    """The row_ids of some rows on which the model fails, found by halves, and of those that were not tried."""

    def fails(some):
        try:
            model.transform(frame(spark, some, schema)).write.format("noop").mode("overwrite").save()
            return False
        except Exception:  # whatever Spark throws is a row that it cannot do
            return True

    pending, found = [tuples], set()
    while pending and len(found) < MOST_FAILING:
        some = pending.pop()
        if some and fails(some):
            if len(some) == 1:
                found.add(some[0][0])
            else:
                pending += [some[: len(some) // 2], some[len(some) // 2 :]]
    return found, {row[0] for some in pending for row in some}


def make_pipeline(spark, rng, case, focus, predictor, n_rows):
    """Draws, trains and runs a pipeline over scalar columns."""
    n_classes = rng.choice([2, 3, 5, 15])
    draft = pipelines.draw(rng, focus, predictor, n_classes, VERSION)
    train = [rows.training_row(rng, i, n_classes, 0.0) for i in range(rng.choice([80, 150]))]
    train_frame = frame(spark, [rows.in_order(row) for row in train], rows.SCHEMA).cache()
    model = pipelines.fit(draft, train_frame)
    train_frame.unpersist()
    usual = [rows.training_row(rng, i, n_classes, 0.0) for i in range(n_rows)]
    hard = [rows.hard_row(rng, n_rows + i, n_classes, draft.points) for i in range(n_rows // 3)]
    case.counts = draft.counts + [(predictor, None)]
    run(spark, rng, model, case, [rows.in_order(row) for row in usual + hard], rows.SCHEMA, n_rows)


def make_bare(spark, rng, case, predictor, n_rows):
    """Draws, trains and runs a forest without a pipeline, on vectors."""
    n_features, n_classes = rng.choice([2, 5, 20]), rng.choice([2, 3, 9])

    def vector(kind):
        entries = [
            rng.choice([0.0, rng.gauss(kind, 2.0), float(rng.randrange(5))]) for _ in range(n_features)
        ]
        return [entry if rng.random() < 0.7 else 0.0 for entry in entries]

    train = []
    for i in range(120):
        kind = i % n_classes
        train.append(
            (Vectors.dense(vector(kind)), float(kind), rng.gauss(kind, 1.0), rng.choice([0.3, 1.0, 2.2]))
        )
    draft = pipelines.Draft(rng, ("bare", None), predictor, n_classes, VERSION)
    draft.label = "class" if draft.classifies else "target"
    estimator = pipelines.predictor(draft, "features")
    model = estimator.fit(frame(spark, train, TRAINING_VECTORS))
    case.counts = [("bare", None), (predictor, None)]
    points = thresholds_of(model)
    tuples = []
    for i in range(n_rows):
        entries = vector(i % n_classes)
        for _ in range(rng.choice([0, 1, 2])):
            feature = rng.randrange(n_features)
            hard = rng.choice(rows.HARD_DOUBLES)
            if points and rng.random() < 0.7:
                feature, threshold = rng.choice(points)
                hard = rng.choice(rows.neighbours(threshold))
            entries[feature] = hard
        stored = [j for j in range(n_features) if entries[j] != 0 or rng.random() < 0.2]
        sparse = Vectors.sparse(n_features, stored, [entries[j] for j in stored])
        tuples.append((i, sparse if rng.random() < 0.5 else Vectors.dense(entries)))
    run(spark, rng, model, case, tuples, VECTORS, 0)


def thresholds_of(model):
    """Feature and threshold of every continuous split."""
    trees = getattr(model, "trees", [model])
    pattern = "(feature "
    found = []
    for tree in trees:
        for line in tree.toDebugString.splitlines():
            if pattern in line and " <= " in line:
                feature, threshold = line.split(pattern)[1].rstrip(")").split(" <= ")
                found.append((int(feature), float(threshold)))
    return found


def run(spark, rng, model, case, tuples, schema, n_usual):
    """Saves the model, finds the rows on which it fails, writes what it is given and what it makes of the others."""
    save(spark, rng, model, case)
    for some in (tuples[:n_usual], tuples[n_usual:]):
        failed, untried = failing(spark, model, some, schema)
        case.failed |= failed
        tuples = [row for row in tuples if row[0] not in untried]
    case.n_rows = len(tuples)
    good = [row for row in tuples if row[0] not in case.failed]
    given = frame(spark, tuples, schema)
    given.write.mode("overwrite").parquet(str(case.directory / "input"))
    made = model.transform(frame(spark, good, schema))
    made.write.mode("overwrite").parquet(str(case.directory / "expected"))
    if pq.read_table(case.directory / "expected", columns=["row_id"]).num_rows == 0:
        raise ValueError("Spark scores none of the rows")


def verify(ids, case):
    """What `ids verify` reports, with what is wrong about the rows that have no score."""
    report = case.directory / "report.json"
    command = [ids, "verify", "--model", case.model, "--input", case.directory / "input", "--key", "row_id"]
    command += ["--expected", case.directory / "expected", "--allow-refused", "--json", report]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 1):
        return None, [ran.stderr.strip()]
    found = json.loads(report.read_text(encoding="utf-8"))
    wrong = [f"{d['column']}: Spark {d['expected']}, here {d['found']}" for d in found["differences"][:3]]
    refused = {int(row["key"]) for row in found["refused_rows"]}
    for row_id in sorted(refused ^ case.failed):
        reason = next(
            (row["reason"] for row in found["refused_rows"] if int(row["key"]) == row_id), "scored or dropped"
        )
        wrong.append(
            f"row {row_id}: Spark {'fails' if row_id in case.failed else 'does not fail'}, here: {reason}"
        )
    if ran.returncode == 1 and not wrong:
        wrong.append("differs")
    return found, wrong


def shrink(ids, case):
    """Copies a case that differs to `case/` beside it, with as few rows as differ: something to commit."""
    found, _ = verify(ids, case)
    wrong = {int(d["key"]) for d in found["differences"] if "key" in d}
    wrong |= {int(row["key"]) for row in found["refused_rows"] if row["key"]} ^ case.failed
    small = Case(case.directory / "case")
    shutil.copytree(case.model, small.model, ignore=shutil.ignore_patterns("_*", ".*"))
    for name in ("input", "expected"):
        (small.directory / name).mkdir()
        table = pq.read_table(case.directory / name)
        some = table.filter(pc.is_in(table["row_id"], pa.array(sorted(wrong)[:3])))
        pq.write_table(some, small.directory / name / "part-0.parquet")
    return small.directory


def make(spark, seed, number, directory, n_rows, boosted):
    """Makes the case `number`; a draw that Spark cannot train gives way to another."""
    focus = pipelines.FOCUSES[number % len(pipelines.FOCUSES)]
    names = pipelines.BOOSTED if boosted else pipelines.PREDICTORS
    predictor = names[(number + number // len(pipelines.FOCUSES)) % len(names)]
    for attempt in range(8):
        # With the version, so that two of them see different pipelines.
        rng = random.Random(f"{spark_version}/{seed}/{number}/{attempt}/{boosted}")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        case = Case(directory)
        try:
            if focus[0] == "bare":
                make_bare(spark, rng, case, predictor, n_rows)
            else:
                make_pipeline(spark, rng, case, focus, predictor, n_rows)
            return case
        except Exception as error:  # e.g. a selector that selects nothing; the next draw is another
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
    sys.exit(f"case {number} ({focus}): no pipeline could be trained; the last: {reason}")


class Totals:
    """What was compared, by stage, mode and outcome."""

    def __init__(self):
        self.models, self.rows = Counter(), Counter()
        self.outcomes = Counter(scored=0, dropped=0, refused=0)
        self.n_models = self.n_rows = self.doubles = self.differing = 0
        self.failures = []

    def add(self, case, found, wrong):
        self.n_models += 1
        if wrong:
            self.failures.append((case.directory.name, wrong))
        if found is None:
            return
        self.n_rows += found["rows"]
        self.doubles += found["doubles"]
        self.differing += found["differing_doubles"]
        for outcome in self.outcomes:
            self.outcomes[outcome] += found[outcome]
        for cell in set(case.counts):
            self.models[cell] += 1
            self.rows[cell] += found["rows"]

    def missing(self):
        """The cells that no model filled."""
        expected = [
            cell
            for cell in pipelines.FOCUSES
            if cell[0] in pipelines.WITH_MODES or cell[0] == "OneHotEncoder"
        ]
        expected += [(stage, None) for stage in pipelines.WITHOUT_MODES + pipelines.PREDICTORS]
        empty = [" ".join(filter(None, cell)) for cell in expected if not self.rows[cell]]
        return empty + [outcome for outcome, n in self.outcomes.items() if n == 0]

    def table(self):
        lines = [f"{'stage or model':32} {'handleInvalid':14} {'models':>7} {'rows':>9}"]
        for name, mode in sorted(self.models, key=lambda cell: (cell[0], cell[1] or "")):
            lines.append(f"{name:32} {mode or '':14} {self.models[name, mode]:7} {self.rows[name, mode]:9}")
        return "\n".join(lines)

    def line(self, what):
        outcomes = ", ".join(f"{name} {n:,}" for name, n in self.outcomes.items())
        return (
            f"{what}: Spark {spark_version}, {self.n_models} models, {self.n_rows:,} rows ({outcomes}), "
            f"{self.doubles:,} doubles compared, {self.differing} differ, {len(self.failures)} models differ"
        )


def main():
    """Draw, train, compare, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=Path, required=True, help="the program `ids`")
    parser.add_argument("--out", type=Path, required=True, help="where models and rows go")
    parser.add_argument("--models", type=int, default=12, help="how many (default: %(default)s)")
    parser.add_argument("--boosted", type=int, default=0, help="how many of boosted trees besides")
    parser.add_argument(
        "--rows", type=int, default=60, help="usual rows per model, and a third as many hard ones"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first model, to repeat one")
    parser.add_argument("--step", type=int, default=1, help="from one model's number to the next")
    parser.add_argument(
        "--gzip-metadata", action="store_true", help="let Spark pack the metadata that it saves"
    )
    parser.add_argument("--require-coverage", action="store_true", help="fail where anything was never met")
    parser.add_argument("--summary", type=Path, help="also write the totals as JSON")
    arguments = parser.parse_args()

    spark = start_spark(arguments.gzip_metadata)
    started = time.monotonic()
    totals, boosted = Totals(), Totals()
    for i in range(arguments.models + arguments.boosted):
        is_boosted = i >= arguments.models
        number = arguments.first + arguments.step * (i - arguments.models if is_boosted else i)
        directory = arguments.out / f"{'boosted-' if is_boosted else ''}{arguments.seed}-{number}"
        case = make(spark, arguments.seed, number, directory, arguments.rows, is_boosted)
        found, wrong = verify(arguments.ids, case)
        (boosted if is_boosted else totals).add(case, found, wrong)
        for line in wrong:
            print(f"DIFFERS {directory}: {line}", flush=True)
        if wrong and found:
            print(f"the rows that differ are in {shrink(arguments.ids, case)}", flush=True)
        if not wrong:
            shutil.rmtree(directory)
        if (i + 1) % 10 == 0:
            print(
                f"{i + 1} models, {totals.doubles:,} doubles, {time.monotonic() - started:.0f} s", flush=True
            )
    spark.stop()

    print(totals.table())
    lines = [totals.line("parity")]
    if boosted.n_models:
        lines.append(boosted.line("boosted trees, apart"))
    print("\n".join(lines))
    missing = totals.missing()
    if missing:
        print(f"never met: {', '.join(missing)}")
    if arguments.summary:
        cells = [
            [name, mode, totals.models[name, mode], totals.rows[name, mode]] for name, mode in totals.models
        ]
        summary = {"lines": lines, "cells": cells, "outcomes": totals.outcomes, "never_met": missing}
        arguments.summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if totals.failures or boosted.failures or (missing and arguments.require_coverage):
        sys.exit(1)


if __name__ == "__main__":
    main()
