"""The command `ids-py`, also `python -m ids_py`: look at a model, score a file, measure a model on labelled flows."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import _ids
from .errors import IdsError
from .evaluation import evaluate

__all__ = ["main"]

EXAMPLES = """examples:
  ids-py inspect models/unsw-nb15
  ids-py score --model models/unsw-nb15 --input flows.csv --output verdicts.jsonl
  ids-py evaluate --model models/unsw-nb15 --input labelled.csv --json quality.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 1 for an error, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # `ids-py score | head`: the reader has what it wanted. What is left must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        text = str(error) if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
        print(f"error: {text}", file=sys.stderr)
        return 1
    except (IdsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ids-py",
        description="Score network flows with the random forest that PySpark trained.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"ids-py {_ids.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect", help="show what a model is: classes, inputs, stages, forest, origin"
    )
    inspect.add_argument("model", type=Path, help="a directory that Spark saved, or a model file")
    inspect.set_defaults(run=_inspect)

    score = commands.add_parser(
        "score", help="score flows: a JSON line per row, a verdict or why there is none"
    )
    score.add_argument("--output", type=Path, help="where the JSON lines go (default: standard output)")
    score.set_defaults(run=_score)

    measure = commands.add_parser("evaluate", help="compare predictions with labels")
    measure.add_argument("--json", type=Path, help="also write the figures as JSON to this file")
    measure.set_defaults(run=_evaluate)

    for command in (score, measure):
        command.add_argument(
            "--model", type=Path, required=True, help="a directory that Spark saved, or a model file"
        )
        command.add_argument("--input", type=Path, required=True, help="flows: CSV or JSON lines")
    for command in (inspect, score, measure):
        command.add_argument(
            "--schema",
            help="name or TOML file of the schema of a Spark directory (default: the built-in one that has its columns)",
        )
    return parser


def _load(options: argparse.Namespace) -> _ids.Model:
    if options.schema is not None:
        return _ids.Model.from_spark(options.model, schema=options.schema)
    return _ids.Model.load(options.model)


def _inspect(options: argparse.Namespace) -> None:
    print(_load(options))


def _score(options: argparse.Namespace) -> None:
    scored, without = _ids.score_file(_load(options), options.input, options.output)
    print(f"{scored} rows scored, {without} without a score", file=sys.stderr)


def _evaluate(options: argparse.Namespace) -> None:
    report = evaluate(_load(options), options.input)
    print(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
