"""Draw the made-up flows that train_save.py trains on: train.jsonl (500 rows) and test.jsonl (200 rows).

    python make_data.py DIRECTORY

Only the standard library and a fixed seed, so every Python since 3.6 writes the same bytes. The test rows
have what serving has to survive: unseen strings and nulls in text columns. Both have nulls and NaN in
numeric columns; JSON has no NaN, so a `duration` of "NaN" stands for it.
"""

import argparse
import json
import random
from pathlib import Path

SEED = 20240601
FILES = {"train": 500, "test": 200}
CLASSES = {"normal": 6, "dos": 3, "probe": 2}
PROTOCOLS = ["tcp", "udp", "icmp"]
SERVICES = ["http", "dns", "smtp", "ftp", "ssh", "other"]
FLAGS = ["SF", "S0", "REJ", "RSTO"]
# How often a class has each of the values above.
PROTOCOL_WEIGHTS = {"normal": [7, 3, 1], "dos": [5, 1, 4], "probe": [4, 4, 2]}
SERVICE_WEIGHTS = {"normal": [6, 4, 2, 1, 1, 2], "dos": [5, 0, 0, 0, 0, 6], "probe": [1, 1, 1, 2, 3, 6]}
FLAG_WEIGHTS = {"normal": [9, 1, 1, 1], "dos": [2, 8, 1, 0], "probe": [2, 2, 6, 2]}
SCALES = {"normal": 1.0, "dos": 0.1, "probe": 0.4}
LARGEST_COUNTS = {"normal": 20, "dos": 500, "probe": 80}


def draw(generator, is_test):
    """One flow. The order of the draws is what keeps the files the same."""

    def choose(values, weights):
        return generator.choices(values, weights)[0]

    label = choose(list(CLASSES), list(CLASSES.values()))
    proto = choose(PROTOCOLS, PROTOCOL_WEIGHTS[label])
    service = choose(SERVICES, SERVICE_WEIGHTS[label])
    flag = choose(FLAGS, FLAG_WEIGHTS[label])
    scale = SCALES[label]
    flow = {
        "duration": generator.expovariate(1 / (5.0 * scale)),
        "src_bytes": int(generator.lognormvariate(6 * scale + 2, 1.5)),
        "dst_bytes": generator.lognormvariate(5 * scale + 1, 2.0),
        "cnt": generator.randint(0, LARGEST_COUNTS[label]),
        "rate": generator.random() ** (2 if label == "normal" else 0.5),
        "land": float(generator.random() < 0.03),
        "const": 3.25,
        "logged_in": generator.random() < scale,
        "proto": proto,
        "service": service,
        "flag": flag,
        "label": label,
        "weight": round(generator.uniform(0.1, 3.0), 3),
    }
    if generator.random() < 0.08:
        flow["duration"] = None
    elif generator.random() < 0.05:
        flow["duration"] = "NaN"
    if generator.random() < 0.06:
        flow["dst_bytes"] = None
    if generator.random() < 0.1:
        flow["src_bytes"] = 0
    if is_test:
        if generator.random() < 0.08:
            flow["service"] = "quic"
        if generator.random() < 0.05:
            flow["proto"] = None
        if generator.random() < 0.04:
            flow["flag"] = "OTH"
    return flow


def main():
    """Write both files from one stream of random numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where to write train.jsonl and test.jsonl")
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    generator = random.Random(SEED)
    for name, rows in FILES.items():
        with (directory / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for _ in range(rows):
                file.write(json.dumps(draw(generator, name == "test")) + "\n")


if __name__ == "__main__":
    main()
