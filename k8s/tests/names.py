"""The names of the samples in a scrape.

curl -s 127.0.0.1:9464/metrics | python3 k8s/tests/names.py
"""

import re
import sys

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def names(scrape):
    """Of all metrics that are described, with samples or without yet, and of all samples."""
    found = set(re.findall(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{| )", scrape, re.MULTILINE))
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE):
        found |= {name + suffix for suffix in SUFFIXES.get(kind, ("",))}
    return found


if __name__ == "__main__":
    print(*sorted(names(sys.stdin.read())), sep="\n")
