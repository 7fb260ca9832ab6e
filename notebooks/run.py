"""Execute the notebooks, in order, as a newcomer would, and check that what is committed is what they are.

    python notebooks/run.py [--write] [--kafka target/debug/kafka]

Executed copies go to target/notebooks; with --write the notebooks themselves are replaced, with their outputs. For the one
on streaming Kafka runs on loopback, unless BOOTSTRAP_SERVERS names one; where its jars are not there it is skipped.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
JARS = [ROOT / "target/kafka/libs", ROOT / "target/spark-kafka"]
TOPICS = ["demo.verdicts.spark", "demo.dlq.spark"]


@contextmanager
def kafka(program):
    """A Kafka that is there, or one of our own; its address is in BOOTSTRAP_SERVERS."""
    if "BOOTSTRAP_SERVERS" in os.environ:
        yield
        return
    command = [program, *(word for topic in TOPICS for word in ("--also", topic))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        name, _, value = running.stdout.readline().strip().removeprefix("export ").partition("=")
        if name != "BOOTSTRAP_SERVERS":
            sys.exit("Kafka did not start")
        os.environ[name] = value
        try:
            yield
        finally:
            running.send_signal(signal.SIGINT)


def execute(path):
    """The notebook with its outputs, without what differs from machine to machine."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": HERE}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # Of Spark's start; nothing that a reader needs.
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def check(path, executed):
    """What is committed must have outputs of the same kinds, and none may name a place of this machine. What a notebook
    proves it asserts itself."""
    committed = nbformat.read(path, as_version=4)
    # A cell that assigns or imports has no output, in both.
    kinds = [[out.output_type for out in cell.get("outputs", [])] for cell in committed.cells]
    expected = [[out.output_type for out in cell.get("outputs", [])] for cell in executed.cells]
    if kinds != expected:
        sys.exit(f"{path.name}: its outputs are not those of its cells; python notebooks/run.py --write")
    if any(place in nbformat.writes(committed) for place in (str(ROOT), str(Path.home()) + "/")):
        sys.exit(f"{path.name}: an output names a directory of one machine")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="replace the notebooks, with their outputs")
    parser.add_argument(
        "--kafka", type=Path, default=ROOT / "target/debug/kafka", help="program that runs Kafka"
    )
    arguments = parser.parse_args()
    copies = ROOT / "target/notebooks"
    copies.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("*.ipynb")):
        streams = "BOOTSTRAP_SERVERS" in path.read_text()
        if streams and not all(jars.is_dir() for jars in JARS):
            print(f"SKIPPED: {path.name}; it needs a real Kafka, whose jars Maven gets (make kafka-jars)")
            continue
        start = time.monotonic()
        with kafka(arguments.kafka) if streams else nullcontext():
            executed = execute(path)
        nbformat.write(executed, path if arguments.write else copies / path.name)
        check(path, executed)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
