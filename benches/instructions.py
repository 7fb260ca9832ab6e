"""How many instructions a flow takes, counted by callgrind: a busy machine does not matter to that.

Compares with the counts in instructions.json, and fails where one is worse by more than the limit. Another compiler or
other instructions of the processor give other counts: --write takes new ones down.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS = Path(__file__).with_suffix(".json")
WORK = ["decode-json", "decode-csv", "pipeline", "forest P 1", "forest P 64", "forest P 1024"]
WORK += ["forest Q 1", "forest Q 64", "forest Q 1024"]


def count(program, work):
    """Instructions per row."""
    with tempfile.TemporaryDirectory() as directory:
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
        only = ["--collect-atstart=no", "--toggle-collect=instructions::counted"]
        done = subprocess.run(
            [*callgrind, *only, str(program), work], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        total = re.search(r"^(?:summary|totals): (\d+)", Path(directory, "out").read_text(), re.M)
    if not total or total[1] == "0":
        sys.exit(f"{work}: callgrind has counted nothing")
    return round(int(total[1]) / int(done.stdout))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--program", type=Path, required=True, help="the program `instructions`")
    parser.add_argument("--limit", type=float, default=0.03, help="how much worse is too much (%(default)s)")
    parser.add_argument("--write", action="store_true", help="take the counts down")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("missing: valgrind, which counts instructions (Debian, Ubuntu: apt install valgrind)")
    known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    counts, worse = {}, []
    print(f"{'instructions a row':20} {'now':>8} {'known':>8}")
    for work in WORK:
        counts[work] = count(options.program, work)
        before = known.get(work)
        change = f"{counts[work] / before - 1:+.1%}" if before else ""
        print(f"{work:20} {counts[work]:8,} {before or '':>8} {change}", flush=True)
        if before and counts[work] > before * (1 + options.limit):
            worse.append(work)
    if options.write:
        COUNTS.write_text(json.dumps(counts, indent=1) + "\n")
    elif worse:
        sys.exit(f"more than {options.limit:.0%} worse: {', '.join(worse)}")


if __name__ == "__main__":
    main()
