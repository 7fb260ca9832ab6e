"""ids-core against every peer, on the same forests and rows, on one core, in one run. `make compare` runs it.

Forests: P is models/unsw-nb15-small, Q is models/unsw-nb15; M (100 trees of depth 12) and L (200 of depth 20) are fitted by
scikit-learn to UNSW-NB15 (the flows of IDS_DATA, or else the synthetic ones, repeated by nothing: so much smaller). Each
engine has a process of its own and is timed from the same row-major doubles to probabilities, conversions included: all
rows in a batch, and row by row, a call each. ids-core scores equal rows once; beside it stands ids-core that scores every
row, as peers do. Engines take turns, round by round, stand still between them, and keep the memory that they have got;
figures are medians.

What Spark says of the same rows is what is true: an engine is exact where it gives the same doubles to the bit.
"""

import argparse
import atexit
import dataclasses
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import fit
from peers import ENGINES, Forest
from python import ROOT, processor

# What an engine gives back it gets again without asking the system: else a call pays for memory that is mapped and
# cleared anew, or does not, by what its process did before. That is a fifth of TL2cgen's time.
# What is larger or more, as it is while a forest is read, goes back.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}

PACKAGES = {"TL2cgen": "tl2cgen", "ONNX Runtime": "onnxruntime", "scikit-learn": "scikit-learn", "YDF": "ydf"}


class Engine:
    """An engine that holds a forest, in a process of its own."""

    def __init__(self, name, command, log):
        self.name, self.timed, self.log = name, {"batch": [], "single": []}, log
        pipe, environment = subprocess.PIPE, os.environ | KEEP_MEMORY
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=file,
                text=True,
                start_new_session=True,
                env=environment,
            )
        atexit.register(self.kill)
        self.load = self.read()
        self.held_mib = "cannot" not in self.load and self.mib("VmRSS")

    def ask(self, command):
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.read()
        # What a JVM does beside its work would be in the way of the others.
        os.killpg(self.process.pid, signal.SIGSTOP)
        return answer

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {self.process.wait()}: see {self.log}")
        return json.loads(line)

    def time(self, mode):
        self.timed[mode].append(self.ask(mode)["us_per_row"])

    def mib(self, what):
        """Memory of the process and its children: `VmRSS`, what they have now, or `VmHWM`, the most they have had."""
        total, processes = 0, [self.process.pid]
        for pid in processes:
            processes += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            # A child that has ended has none.
            found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) if found else 0
        return total / 1024

    def kill(self):
        """Ends it where the comparison ends early: what stands still does not hear that its input has ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self):
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def main():
    options = arguments()
    # An end like every other, which kills the engines.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    real = Path(os.environ.get("IDS_DATA") or "/nowhere") / "unsw-nb15/flows.csv"
    flows = real if real.is_file() else ROOT / "testdata/synthetic-unsw-nb15.csv"
    scratch = ROOT / "target/compare" / ("real" if flows == real else "synthetic")
    scratch.mkdir(parents=True, exist_ok=True)
    say(f"{processor()}, one of {os.cpu_count()} cores; {'real' if flows == real else 'SYNTHETIC'} flows")
    if {"M", "L"} & set(options.forests):
        fit.fit(flows, scratch, options.rows, say)
    peers = ", ".join(f"{name} {version(package)}" for name, package in PACKAGES.items())
    print(f"{processor()}, one core, medians of {options.rounds} rounds, {options.rows:,} rows a batch")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {peers}, Spark {version('pyspark')}")
    # Before anything else is started: every engine inherits the one core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures = []
    for name in options.forests:
        own, table = compare(lay_out(name, flows, scratch, options), options)
        figures += own
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(table, flush=True)
    if "P" in options.forests and "Spark" in options.engines:
        print(compare_messages(lay_out("P", flows, scratch, options), flows, options))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rust", type=Path, required=True, help="the program compare-engine")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument(
        "--forests", nargs="+", default=list("PQML"), choices=list("PQML"), help="all by default"
    )
    parser.add_argument(
        "--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES), help="beside ids-core"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each engine (%(default)s)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of a batch (%(default)s)")
    return parser.parse_args()


def lay_out(name, flows, scratch, options):
    """The forest of that name, with rows to score."""
    if name in fit.SHAPES:
        return Forest(
            name,
            scratch / name,
            scratch / "rows.f64",
            scratch,
            scratch / f"{name}.joblib",
            scratch / "schema.toml",
        )
    model = ROOT / "models" / {"P": "unsw-nb15-small", "Q": "unsw-nb15"}[name]
    rows = scratch / f"{name}.f64"
    subprocess.run([options.rust, "features", model, flows, str(options.rows), rows], check=True)
    return Forest(name, model, rows, scratch)


def compare(forest, options):
    """Times all engines on a forest: the figures, and a table of them."""
    say(f"{forest.name}: loading")
    log = forest.scratch / f"{forest.name}.log"
    ours = {"ids-core": "score", "ids-core, every row": "score-every-row"}
    engines = [
        Engine(name, [options.rust, how, forest.stage(), forest.rows], log) for name, how in ours.items()
    ]
    cannot = {}
    for name in options.engines:
        start = time.monotonic()
        command = [sys.executable, Path(__file__).with_name("peers.py"), name, describe(forest)]
        engine = Engine(name, command, log.with_name(f"{forest.name}.{name}.log"))
        if "cannot" in engine.load:
            cannot[name] = engine.load["cannot"]
        else:
            engines.append(engine)
            say(f"{forest.name}: {name} has loaded it, {time.monotonic() - start:.0f} s")
    exact = check(forest, engines)
    for number in range(options.rounds):
        for mode in ("batch", "single"):
            for engine in engines:
                engine.time(mode)
        say(f"{forest.name}: round {number + 1} of {options.rounds}")
    medians = {
        mode: {e.name: statistics.median(e.timed[mode]) for e in engines} for mode in ("batch", "single")
    }
    figures = [
        {"forest": forest.name, "mode": mode, "engine": name, "us_per_row": us, "exact": exact[name] == 0}
        for mode, of_engines in medians.items()
        for name, us in of_engines.items()
    ]
    table = table_of(forest, engines, medians, exact, cannot)
    for engine in engines:
        engine.end()
    return figures, table


def compare_messages(forest, flows, options):
    """From messages of JSON to scores, against Spark: a line of text."""
    forest.messages = forest.scratch / f"{forest.name}.jsonl"
    command = [options.rust, "messages", forest.spark, flows, str(options.rows), forest.messages]
    subprocess.run(command, check=True)
    log = forest.scratch / "messages.log"
    ours = Engine("ids-core", [options.rust, "score-messages", forest.spark, forest.messages], log)
    command = [sys.executable, Path(__file__).with_name("peers.py"), "Spark", describe(forest)]
    spark = Engine("Spark", command, log.with_name("messages.Spark.log"))
    check(forest, [ours, spark])
    for number in range(options.rounds):
        ours.time("batch")
        spark.time("batch")
        say(f"JSON: round {number + 1} of {options.rounds}")
    us, spark_us = (statistics.median(engine.timed["batch"]) for engine in (ours, spark))
    ours.end(), spark.end()
    return (
        f"\nFrom a message of JSON to its scores, {forest.name}: ids-core {us:.2f} us ({1e6 / us:,.0f} rows a second), "
        f"Spark {spark_us:.1f} us: {spark_us / us:.1f} times as fast, and equal to the bit.\n"
    )


def describe(forest):
    return json.dumps({key: value and str(value) for key, value in dataclasses.asdict(forest).items()})


def check(forest, engines):
    """Per engine, by how much a probability differs at most from Spark's, or from ids-core's where Spark is left out.

    ids-core and ids-py must give the same to the bit, and all others nearly the same: else something is wrong with how
    the forest was handed to them, and no figure would mean anything.
    """
    answers = {}
    for engine in engines:
        file = forest.scratch / f"{forest.name}.{engine.name.replace(' ', '-')}.answer"
        engine.ask(f"answer {file}")
        answers[engine.name] = np.fromfile(file)
        file.unlink()
    true = answers.get("Spark", answers["ids-core"])
    differences = {}
    for name, answer in answers.items():
        if answer.shape != true.shape:
            sys.exit(f"{forest.name}: {name} gave {answer.shape[0]} doubles, not {true.shape[0]}")
        same = (answer.view(np.uint64) == true.view(np.uint64)).all()
        differences[name] = 0.0 if same else max(float(abs(answer - true).max()), 5e-324)
        allowed = 0 if name.startswith("ids-") else 1e-4
        # A row on the very edge of a split may go either way in float32; few do.
        n_far = np.count_nonzero(abs(answer - true) > 1e-4)
        if (allowed == 0 and not same) or n_far > answer.size * 1e-3:
            sys.exit(
                f"{forest.name}: {name} differs from Spark by up to {differences[name]}, {n_far} doubles"
            )
    return differences


def table_of(forest, engines, medians, exact, cannot):
    """A table in Markdown."""
    best = {
        mode: min(us for name, us in own.items() if not name.startswith("ids-"))
        for mode, own in medians.items()
    }
    lines = [
        "",
        f"| {forest.name} | batch, us a row | best peer | one row, us | best peer | differs by | load s | MiB loaded | at most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine in engines:
        cells = [engine.name]
        for mode in ("batch", "single"):
            us = medians[mode][engine.name]
            cells += [f"{us:,.2f}", f"{best[mode] / us:.2f}x"]
        load = engine.load.get("load_s") or engine.load["read_s"] + engine.load["compile_s"]
        cells += ["exact" if exact[engine.name] == 0 else f"{exact[engine.name]:.0e}"]
        cells += [f"{load:.2f}", f"{engine.held_mib:,.0f}", f"{engine.mib('VmHWM'):,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{name} is left out: {why}." for name, why in cannot.items()]
    ours = engines[0].load
    lines.append(
        f"\nids-core reads it in {ours['read_s']:.2f} s and compiles it in {ours['compile_s']:.3f} s: {ours['plan']}."
    )
    return "\n".join(lines) + "\n"


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
