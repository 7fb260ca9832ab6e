"""Forests trained by `ids train`, PySpark and scikit-learn on the same rows: how good they are, and how long it takes.

    python benches/compare/training.py --ids target/release/ids --json FILE [--trees 50] [--depth 6] [--seeds 5]

UNSW-NB15 (`IDS_DATA` holds `unsw-nb15/flows.csv`) is split by a hash of the 42 features, so that equal flows are on one
side: 56 % to train, 14 % to validate, 30 % to test. Each side tries the same small grid on the validation part, one seed.
With its best setting it then learns train and validation together, once for each seed, and is asked for the test part.

What differs, beside the program: PySpark splits on sets of categories, as `ids train` does, scikit-learn on their
numbers; `ids train` reads the file within its time, the others have the rows in memory; PySpark's time includes its
indexers. Macro-F1 is over the ten classes, 0 where undefined.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from spark import processor

import train as reference

ROOT = Path(__file__).resolve().parents[2]

BINS = 256


def main():
    options = arguments()
    flows = reference.find_flows(None)
    with tempfile.TemporaryDirectory() as scratch:
        parts = split(flows, Path(scratch))
        results = {}
        for name in options.sides:
            side = SIDES[name](options, parts)
            results[name] = measure(name, side, options)
            side.end()
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "pyspark": version("pyspark"),
        "scikit-learn": version("scikit-learn"),
    }
    found = {
        "machine": machine,
        "trees": options.trees,
        "depth": options.depth,
        "rows": {name: part.n_rows for name, part in parts.items()},
        "results": results,
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=Path, required=True, help="the program ids")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5, help="forests of each side (%(default)s)")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), help="all by default")
    parser.add_argument("--balances", nargs="+", type=float, default=[0.0, 0.5, 0.75, 1.0], help="the grid")
    parser.add_argument("--features", nargs="+", default=["sqrt", "third"], choices=["sqrt", "third"])
    return parser.parse_args()


class Part:
    """Some of the rows: as a file, and as a matrix with categories numbered as they occur in the whole file."""

    def __init__(self, path, header, rows, numbers):
        self.path, self.n_rows = path, len(rows)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        columns = [header.index(name) for name in reference.FEATURES]
        self.labels = np.array([row[header.index(reference.CLASS)] for row in rows])
        self.matrix = np.array([[number(numbers, column, row[column]) for column in columns] for row in rows])


def number(numbers, column, text):
    return numbers[column][text] if column in numbers else float(text)


def split(flows, directory):
    """The parts `train`, `validation`, `both` of these, and `test`."""
    with flows.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    columns = [header.index(name) for name in reference.FEATURES]
    numbers = {}
    for name in reference.CATEGORIES:
        column = header.index(name)
        numbers[column] = {text: i for i, text in enumerate(sorted({row[column] for row in rows}))}
    parts = {"train": [], "validation": [], "test": []}
    for row in rows:
        digest = hashlib.sha256("\0".join(row[column] for column in columns).encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        parts["test" if place < 0.3 else "validation" if place < 0.44 else "train"].append(row)
    parts["both"] = parts["train"] + parts["validation"]
    return {name: Part(directory / f"{name}.csv", header, part, numbers) for name, part in parts.items()}


def measure(name, side, options):
    """Tunes a side and lets it learn with each seed."""
    trials = []
    for balance, features in itertools.product(options.balances, options.features):
        trials.append({"balance": balance, "features": features})
        trials[-1] |= side.run("train", "validation", balance, features, seed=0)
        print(f"{name}: {trials[-1]}", file=sys.stderr, flush=True)
    best = max(trials, key=lambda trial: trial["macro_f1"])
    runs = []
    for seed in range(1, options.seeds + 1):
        runs.append({"seed": seed} | side.run("both", "test", best["balance"], best["features"], seed))
        print(f"{name}: {runs[-1]}", file=sys.stderr, flush=True)
    return {"trials": trials, "best": best, "runs": runs}


class Side:
    """A program that trains: `run` gives what one forest reached, and how long it took."""

    def __init__(self, options, parts):
        self.options, self.parts = options, parts

    def end(self):
        """What is left to do when all is measured."""


class Ids(Side):
    """`ids train` and `ids evaluate`, as a user runs them; the time is that of the whole program."""

    def run(self, train, test, balance, features, seed):
        options = self.options
        model, figures = (self.parts["train"].path.with_name(name) for name in ("model.ids", "figures.json"))
        learn = [options.ids, "train", "--input", self.parts[train].path, "--out", model]
        learn += ["--trees", options.trees, "--depth", options.depth, "--bins", BINS]
        learn += ["--balance", balance, "--features-per-node", features, "--seed", seed]
        with Stopwatch(children_seconds) as watch:
            call(learn)
        call([options.ids, "evaluate", "--model", model, "--input", self.parts[test].path, "--json", figures])
        return {"macro_f1": json.loads(figures.read_text())["macro_f1"], **watch.seconds}


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")


class ScikitLearn(Side):
    """Its forest of exact splits on doubles of 32 bits; categories are numbers."""

    def run(self, train, test, balance, features, seed):
        train, test = self.parts[train], self.parts[test]
        classes, positions, counts = np.unique(train.labels, return_inverse=True, return_counts=True)
        weights = (train.n_rows / len(classes) / counts[positions]) ** balance
        forest = RandomForestClassifier(
            self.options.trees,
            max_depth=self.options.depth,
            max_features="sqrt" if features == "sqrt" else 1 / 3,
            random_state=seed,
            n_jobs=-1,
        )
        with Stopwatch(time.process_time) as watch:
            forest.fit(train.matrix, train.labels, sample_weight=weights)
        return {"macro_f1": macro_f1(test.labels, forest.predict(test.matrix)), **watch.seconds}


class PySpark(Side):
    """The pipeline of `models/train.py`, without class thresholds."""

    def __init__(self, options, parts):
        self.options, self.frames = options, {}
        self.spark = spark = reference.start_spark()
        spark.sparkContext.setLogLevel("ERROR")
        self.stat = Path(f"/proc/{spark._jvm.java.lang.ProcessHandle.current().pid()}/stat")
        for name, part in parts.items():
            frame = spark.read.csv(
                str(part.path), header=True, schema=reference.SCHEMA, mode="FAILFAST"
            ).cache()
            assert frame.count() == part.n_rows
            self.frames[name] = frame

    def run(self, train, test, balance, features, seed):
        setting = {
            "weight_exponent": balance,
            "thresholds": {},
            "forest": {
                "numTrees": self.options.trees,
                "maxDepth": self.options.depth,
                "minInstancesPerNode": 1,
                "maxBins": BINS,
                "impurity": "gini",
                "featureSubsetStrategy": "sqrt" if features == "sqrt" else "onethird",
            },
        }
        reference.SEED = seed
        with Stopwatch(self.jvm_seconds) as watch:
            model, _ = reference.fit(self.frames[train], setting)
        scored = model.transform(self.frames[test]).select(reference.CLASS, "predicted_cat").collect()
        actual, predicted = zip(*scored)
        return {"macro_f1": macro_f1(actual, predicted), **watch.seconds}

    def end(self):
        self.spark.stop()

    def jvm_seconds(self):
        """Time of processors that the JVM has taken: user and system (proc(5))."""
        fields = self.stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Takes the time on the wall and that of processors, which does not depend on what else the machine does."""

    def __init__(self, processors):
        self.processors = processors

    def __enter__(self):
        self.start = time.monotonic(), self.processors()
        return self

    def __exit__(self, *_):
        ends = time.monotonic(), self.processors()
        self.seconds = {
            name: end - start for name, start, end in zip(("wall_s", "processor_s"), self.start, ends)
        }


SIDES = {"ids train": Ids, "scikit-learn": ScikitLearn, "PySpark": PySpark}


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def macro_f1(actual, predicted):
    return float(f1_score(actual, predicted, average="macro", zero_division=0))


def table(found):
    """The figures as Markdown."""
    lines = [
        f"{found['trees']} trees of depth {found['depth']}, {found['rows']['both']:,} rows to learn, "
        f"{found['rows']['test']:,} to test",
        "",
        "| | setting | macro-F1, mean | least to most | s, median | s of processors, median |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, result in found["results"].items():
        scores, best = [run["macro_f1"] for run in result["runs"]], result["best"]
        wall, used = (
            statistics.median(run[name] for run in result["runs"]) for name in ("wall_s", "processor_s")
        )
        lines.append(
            f"| {name} | balance {best['balance']}, {best['features']} | {statistics.mean(scores):.3f} "
            f"| {min(scores):.3f} to {max(scores):.3f} | {wall:.1f} | {used:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
