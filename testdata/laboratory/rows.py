"""Rows to train on, and rows on which scorers go wrong."""

import math
import struct

from pyspark.sql import types as T

SCHEMA = T.StructType(
    [
        T.StructField("row_id", T.LongType()),
        T.StructField("d1", T.DoubleType()),
        T.StructField("d2", T.DoubleType()),
        T.StructField("d3", T.DoubleType()),
        T.StructField("few", T.DoubleType()),  # few distinct values, both signs of zero among them
        T.StructField("f1", T.FloatType()),
        T.StructField("i1", T.IntegerType()),
        T.StructField("l1", T.LongType()),
        T.StructField("b1", T.BooleanType()),
        T.StructField("s1", T.StringType()),
        T.StructField("s2", T.StringType()),
        T.StructField("kind", T.StringType()),
        T.StructField("class", T.DoubleType()),
        T.StructField("target", T.DoubleType()),
        T.StructField("weight", T.DoubleType()),
    ]
)
NUMBERS = ["d1", "d2", "d3", "few", "f1", "i1", "l1", "b1"]
TEXTS = ["s1", "s2"]
WORDS = ["tcp", "udp", "icmp", "arp", "NaN", " tcp", "1", "é", "a,b"]
HARD_DOUBLES = [
    0.0,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
    -5e-324,
    2.3e-308,
    1e308,
    -1e308,
    0.1,
    1e16,
    -1.0,
]
HARD_INTS = [0, -1, 2**31 - 1, -(2**31), 3]
HARD_LONGS = [0, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 4]


def as_float(x):
    """The float nearest to a double, as a double."""
    if x == x and abs(x) >= 3e38:
        return math.copysign(math.inf, x)
    return struct.unpack("<f", struct.pack("<f", x))[0]


def neighbours(x):
    """A double and the ones next to it."""
    return [x, math.nextafter(x, math.inf), math.nextafter(x, -math.inf)]


def training_row(rng, row_id, n_classes, gaps):
    """A row whose class depends on its values; a share `gaps` of the values is missing or NaN."""
    kind = min(int(rng.random() ** 1.5 * n_classes), n_classes - 1)
    noise = rng.gauss(0, 1)
    row = {
        "row_id": row_id,
        "d1": kind * 0.7 + noise,
        "d2": math.exp(rng.gauss(kind * 0.3, 1.5)),
        "d3": float(rng.randrange(0, 50) * (1 + kind % 3)) if rng.random() > 0.4 else 0.0,
        "few": rng.choice([0.0, -0.0, 1.0, 2.5, -3.0]) if kind % 2 else rng.choice([0.0, 1.0, 1e7]),
        "f1": as_float(rng.random() * (kind + 1)),
        "i1": rng.randrange(0, 4 + kind % 5),
        "l1": rng.choice([1, 2, 3, 10**12]) + kind,
        "b1": rng.random() < 0.2 + 0.6 * (kind % 2),
        "s1": rng.choice(["", *WORDS[: 2 + kind % 3]]),
        # Spark cannot name the features of an RFormula after an empty text.
        "s2": rng.choice(WORDS[:4] if kind % 2 else WORDS[3:]),
        "kind": f"k{kind}",
        "class": float(kind),
        "target": noise * 3 + kind - 0.1,
        "weight": rng.choice([0.25, 1.0, 1.1, 3.7]),
    }
    for name in NUMBERS + TEXTS:
        if rng.random() < gaps:
            row[name] = math.nan if name in ("d1", "d2", "f1") and rng.random() < 0.5 else None
    return row


def hard_row(rng, row_id, n_classes, points):
    """A row like those of the training with one to three values that are hard; `points` gives more of them by
    column (split points, fitted labels)."""
    row = training_row(rng, row_id, n_classes, 0.0)
    for name in rng.sample(NUMBERS + TEXTS, rng.choice([1, 1, 2, 3])):
        if rng.random() < 0.15:
            row[name] = None
        elif points.get(name) and rng.random() < 0.5:
            row[name] = rng.choice(neighbours(rng.choice(points[name])))
        elif name in TEXTS:
            row[name] = rng.choice(["quic", "TCP", "tcp ", "", "1.0", *WORDS])
        elif name == "b1":
            row[name] = rng.random() < 0.5
        elif name == "i1":
            row[name] = rng.choice(HARD_INTS)
        elif name == "l1":
            row[name] = rng.choice(HARD_LONGS)
        else:
            value = rng.choice(HARD_DOUBLES)
            row[name] = as_float(value) if name == "f1" else value
    return row


def in_order(row):
    """The values of a row in the order of the schema."""
    return tuple(row[field.name] for field in SCHEMA.fields)
