#!/usr/bin/env python3
"""Make synthetic network flows in the UNSW-NB15 schema.

    python testdata/synthesize.py fit                          # real data -> parameters
    python testdata/synthesize.py sample --rows 9000 --seed 7  # parameters -> synthetic flows
    python testdata/synthesize.py check                        # how alike are the two?

The real data may not be shipped, so the demo and the tests replay flows that no network ever carried.
`fit` reads the real data once and keeps aggregated statistics only; `sample` needs nothing but those, and
writes the same bytes every time it is given the same seed.

The model, per attack category and connection state:

1.  An unsupervised regression tree cuts the flows into *cells* of similar flows, at least `MIN_CELL` in each.
2.  A cell knows how often each *kind* of flow occurs in it: protocol, service, TTLs, windows and the other
    columns with a handful of values, always as one of the joint combinations seen in the data.
3.  Each measured column (duration, packets, bytes, jitter, counters ...) has a marginal distribution in the
    cell: a value of its own for what at least `MIN_SHARED` rows share, the means of at least `MIN_SHARED`
    neighbouring rows in between, and never more than `MAX_KNOTS` of those in a row.
4.  A Gaussian copula with a shrunk correlation matrix couples the columns of a cell.
5.  What the data set derives from other columns (rates, loads, means, round-trip time ...) is derived here
    as well.

Reproducible: all randomness comes from the raw output of PCG64, whose stream NumPy guarantees (NEP 19); the
methods of `Generator` may change between versions and are not used. Parameters and flows have come out the
same to the byte with NumPy 1.26 and 2.4, pandas 2.2 and 3.1.
"""

import argparse
import gzip
import json
import os
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
PARAMS = HERE / "synthetic-unsw-nb15.params.json.gz"
OUTPUT = HERE / "synthetic-unsw-nb15.csv"

MIN_CELL = 30  # rows in a cell; smaller groups are left out altogether
MIN_SHARED = 5  # rows that share a value we keep, or are averaged into one
MAX_KNOTS = 16  # averaged values per column and cell
MIN_KIND = 3  # rows of a kind of flow
MIN_GAIN = 0.002  # a cut must explain this share of the spread of its state
SHRINK = 40  # correlations are multiplied by n / (n + SHRINK)
FLOOR = 40  # synthetic rows of a class, at the least

HEADER = """
    id dur proto service state spkts dpkts sbytes dbytes rate sttl dttl sload dload sloss dloss sinpkt dinpkt
    sjit djit swin stcpb dtcpb dwin tcprtt synack ackdat smean dmean trans_depth response_body_len ct_srv_src
    ct_state_ttl ct_dst_ltm ct_src_dport_ltm ct_dst_sport_ltm ct_dst_src_ltm is_ftp_login ct_ftp_cmd
    ct_flw_http_mthd ct_src_ltm ct_srv_dst is_sm_ips_ports attack_cat label
""".split()
KIND = """
    proto service sttl dttl ct_state_ttl swin dwin trans_depth is_ftp_login ct_ftp_cmd ct_flw_http_mthd
    is_sm_ips_ports
""".split()
COUNTS = """
    spkts dpkts sbytes dbytes sloss dloss response_body_len ct_srv_src ct_srv_dst ct_dst_ltm ct_src_ltm
    ct_src_dport_ltm ct_dst_sport_ltm ct_dst_src_ltm
""".split()
TIMES = "dur sjit djit synack ackdat".split()
GAPS = "sgap dgap".split()  # inter-packet time, relative to the one that duration and packets imply
MEASURED = COUNTS + TIMES + GAPS


# --- fit -------------------------------------------------------------------------------------------------


def real_flows():
    """The real flows, from $IDS_DATA or ../shared/data beside the project."""
    folder = Path(os.environ.get("IDS_DATA") or HERE.parent.parent / "shared" / "data")
    path = folder / "unsw-nb15" / "flows.csv"
    if not path.exists():
        sys.exit(f"{path} is missing: set IDS_DATA to the directory that holds unsw-nb15/flows.csv")
    return pd.read_csv(path, encoding="utf-8-sig")


def even_gap(dur, packets):
    """Milliseconds between packets spread evenly over a flow; 0 where there is nothing to spread."""
    return np.where(packets > 1, dur * 1000 / np.maximum(packets - 1, 1), 0)


def with_gaps(flows):
    """Add `sgap` and `dgap`: inter-packet time over the even one (or itself where that is 0)."""
    gaps = {}
    for side in "sd":
        even, seen = even_gap(flows["dur"], flows[f"{side}pkts"]), flows[f"{side}inpkt"]
        gaps[f"{side}gap"] = np.where(even > 0, seen / np.where(even > 0, even, 1), seen).round(4)
    return flows.assign(**gaps)


def ranks(flows):
    """Numeric columns as ranks in 0..1 (a forest sees no more of them), categories as indicators."""
    numeric = flows.drop(columns=["id", "label", "stcpb", "dtcpb"]).select_dtypes("number")
    services = pd.get_dummies(flows["service"]) * 0.5
    family = pd.get_dummies(flows["proto"].where(flows["proto"].isin(["tcp", "udp", "arp"]), "other"))
    return np.hstack([numeric.rank(pct=True), services, family]).astype(np.float64)


def cut(points, rows, least):
    """Best cut of `rows` in two: (gain in squared error, left rows, right rows) or None."""
    here, best = points[rows], None
    total, n = here.sum(0), len(rows)
    sizes = np.arange(least, n - least + 1)
    for column in np.flatnonzero(np.ptp(here, axis=0) > 1e-9):
        order = np.argsort(here[:, column], kind="stable")
        key = here[order, column]
        allowed = key[sizes - 1] < key[sizes]
        if not allowed.any():
            continue
        left = here[order].cumsum(0)[sizes - 1]
        error = (left**2).sum(1) / sizes + ((total - left) ** 2).sum(1) / (n - sizes)
        at = np.where(allowed, error, -np.inf).argmax()
        gain = error[at] - (total**2).sum() / n
        if best is None or gain > best[0] + 1e-9:
            best = gain, rows[order[: sizes[at]]], rows[order[sizes[at] :]]
    return best


def cells(points, rows):
    """Cut the rows of a class and state into cells."""
    spread = points[rows].var(0).sum() * len(rows)
    todo, done = [rows], []
    while todo:
        rows = todo.pop()
        found = cut(points, rows, MIN_CELL) if len(rows) >= 2 * MIN_CELL else None
        if found and found[0] > MIN_GAIN * spread:
            todo += [found[2], found[1]]
        else:
            done.append(np.sort(rows))
    return done


def brief(value):
    """A number at six significant digits, as an integer where it is one."""
    value = float(f"{value:.6g}")
    return int(value) if value.is_integer() else value


def marginal(values):
    """A column's distribution as knots (rows at or below, value), or as its only value.

    No knot is the value of fewer than MIN_SHARED rows. `draw` interpolates between knots; a shared value is
    two knots of equal height. The ends are extrapolated from means.
    """
    values = np.sort(values)
    unique, start, count = np.unique(values, return_index=True, return_counts=True)
    shared = count >= MIN_SHARED
    n, knots = len(values), []

    def between(begin, end):
        size = end - begin
        if size < MIN_SHARED:  # leave the gap to its neighbours
            return
        parts = np.array_split(values[begin:end], min(MAX_KNOTS, size // MIN_SHARED))
        means = [part.mean() for part in parts]
        width = size / len(parts)
        at = [begin + width * (i + 0.5) for i in range(len(parts))]
        if len(parts) > 1 and begin == 0:
            means, at = [max(means[0] * 1.5 - means[1] * 0.5, 0), *means], [0, *at]
        if len(parts) > 1 and end == n:
            means, at = [*means, means[-1] * 1.5 - means[-2] * 0.5], [*at, n]
        knots.extend(zip(at, means))

    begin = 0
    for value, first, many in zip(unique[shared], start[shared], count[shared]):
        between(begin, first)
        knots += [(first, value), (first + many, value)]
        begin = first + many
    between(begin, n)
    if not knots:
        knots = [(n / 2, values.mean())]
    at, height = zip(*knots)
    if len(set(height)) == 1:
        return brief(height[0])
    return [[brief(round(p, 1)) for p in at], [brief(v) for v in height]]


def correlation(columns):
    """Shrunk correlations of normal scores, in hundredths: the upper triangle, row by row."""
    n = len(columns)
    score = (columns.rank() - 0.5) / n
    score = score.map(NormalDist().inv_cdf)
    matrix = np.nan_to_num(np.corrcoef(score.to_numpy().T)) * n / (n + SHRINK)
    return np.rint(matrix[np.triu_indices(len(matrix), 1)] * 100).astype(int).tolist()


def fit(_):
    """Read the real flows and write the parameters."""
    flows = with_gaps(real_flows())
    points = ranks(flows)
    kinds = flows.groupby(KIND).size()
    kinds = kinds[kinds >= MIN_KIND]
    number = {kind: i for i, kind in enumerate(kinds.index)}
    classes = {}
    for name, members in flows.groupby("attack_cat"):
        found = []
        for state, group in members.groupby("state"):
            if len(group) < MIN_CELL and len(group) < len(members) / 2:
                continue
            for rows in cells(points, group.index.to_numpy()):
                cell = flows.loc[rows]
                known = pd.Series(map(number.get, cell[KIND].itertuples(index=False, name=None))).dropna()
                known = known.astype(int).value_counts().sort_index()
                if known.empty:
                    continue
                marginals = [marginal(cell[column].to_numpy()) for column in MEASURED]
                moving = [c for c, m in zip(MEASURED, marginals) if isinstance(m, list)]
                found.append(
                    {
                        "rows": len(cell),
                        "state": state,
                        "kinds": [known.index.tolist(), known.tolist()],
                        "marginals": marginals,
                        "correlation": correlation(cell[moving]) if len(moving) > 1 else [],
                    }
                )
        classes[name] = {"rows": len(members), "cells": found}
        print(f"{name:15s} {len(members):6d} rows {len(found):4d} cells", file=sys.stderr)
    params = {
        "about": "Aggregated statistics of UNSW-NB15 flows (Moustafa & Slay, 2015); see synthesize.py",
        "kind_columns": KIND,
        "kinds": [list(kind) for kind in kinds.index],
        "measured_columns": MEASURED,
        "classes": classes,
    }
    text = json.dumps(params, separators=(",", ":"), default=int)
    PARAMS.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{PARAMS.name}: {len(text)} bytes, {PARAMS.stat().st_size} compressed", file=sys.stderr)


# --- sample ----------------------------------------------------------------------------------------------


class Uniform:
    """Uniform numbers in the open interval (0, 1) from PCG64's raw output."""

    def __init__(self, seed):
        self.bits = np.random.PCG64(seed)

    def __call__(self, *shape):
        raw = self.bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return ((raw + 0.5) * 2.0**-53).reshape(shape)


def quotas(weights, rows, floor=0):
    """Share `rows` out in proportion to `weights` (largest remainder), `floor` at the least."""
    weights = np.asarray(weights, float)
    low = weights / weights.sum() * rows < floor
    exact = np.where(low, floor, 0.0)
    exact[~low] = weights[~low] / weights[~low].sum() * (rows - exact.sum())
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: rows - whole.sum()]] += 1
    return whole


def spread_out(weights, rows, uniform):
    """How often to take each of several things: proportional, with chance only in the remainders."""
    edges = np.cumsum(weights) / np.sum(weights) * rows + uniform(1)[0]
    edges[-1] = max(edges[-1], rows)
    whole = np.minimum(np.floor(edges), rows).astype(int)
    return np.diff(whole, prepend=0)


def draw(knots, rows, u):
    """Values at the probabilities `u` of a marginal distribution."""
    if not isinstance(knots, list):
        return np.full(len(u), float(knots))
    at, height = np.array(knots, float)
    at, height = np.r_[-1, at, rows + 1], np.r_[height[0], height, height[-1]]
    u = u * rows
    right = np.searchsorted(at, u, side="right")
    part = (u - at[right - 1]) / (at[right] - at[right - 1])
    return height[right - 1] + part * (height[right] - height[right - 1])


def sample_cell(cell, kinds, rows, uniform):
    """`rows` flows of one cell: kinds and measured columns."""
    marginals = cell["marginals"]
    moving = [i for i, m in enumerate(marginals) if isinstance(m, list)]
    matrix = np.eye(len(moving))
    if len(moving) > 1:
        upper = np.triu_indices(len(moving), 1)
        matrix[upper] = matrix.T[upper] = np.array(cell["correlation"]) / 100
        value, vector = np.linalg.eigh(matrix)  # rounding may have cost it definiteness
        matrix = (vector * np.maximum(value, 1e-3)) @ vector.T
        matrix /= np.sqrt(np.outer(matrix.diagonal(), matrix.diagonal()))
    normal = NormalDist()
    noise = np.array([normal.inv_cdf(p) for p in uniform(rows, len(moving)).ravel()])
    score = noise.reshape(rows, -1) @ np.linalg.cholesky(matrix).T
    # Nine digits: what the last bits of a processor's arithmetic say is not seen in the result.
    u = np.array([normal.cdf(z) for z in score.ravel()]).reshape(score.shape).round(9)
    columns = {MEASURED[i]: draw(m, cell["rows"], np.zeros(rows)) for i, m in enumerate(marginals)}
    columns |= {MEASURED[i]: draw(marginals[i], cell["rows"], u[:, j]) for j, i in enumerate(moving)}
    edges = np.cumsum(cell["kinds"][1])
    chosen = np.searchsorted(edges, uniform(rows) * edges[-1], side="right")
    table = [kinds[cell["kinds"][0][i]] for i in chosen]
    return pd.DataFrame(table, columns=KIND).assign(state=cell["state"], **columns)


def coherent(flows, uniform):
    """Make the columns of each flow agree with one another, and derive those that follow from others."""
    f = flows.copy()
    for name in COUNTS:
        f[name] = np.floor(f[name] + 0.5).astype(np.int64)
    f["dur"] = f["dur"].round(6)
    f["spkts"] = f["spkts"].clip(lower=1)
    f["sbytes"] = f["sbytes"].clip(24 * f["spkts"], 1504 * f["spkts"])
    f["dbytes"] = f["dbytes"].clip(28 * f["dpkts"], 1500 * f["dpkts"])
    for side in "sd":
        pkts, size = f[f"{side}pkts"], f[f"{side}bytes"]
        f[f"{side}loss"] = np.minimum(f[f"{side}loss"], pkts // 2)
        f[f"{side}jit"] = f[f"{side}jit"].where(pkts > 1, 0).round(6)
        even = even_gap(f["dur"], pkts)
        f[f"{side}inpkt"] = (
            (f[f"{side}gap"] * np.where(even > 0, even, 1)).where(pkts > 0, 0).clip(upper=60010).round(6)
        )
        inner = 8 * size * (pkts - 1).clip(lower=0) / pkts.clip(lower=1)
        f[f"{side}load"] = (inner / f["dur"].where(f["dur"] > 0, np.inf)).astype(np.float32)
        f[f"{side}mean"] = np.floor(size / pkts.clip(lower=1) + 0.5).astype(np.int64)
    f["rate"] = (f["spkts"] + f["dpkts"] - 1) / f["dur"].where(f["dur"] > 0, np.inf)
    answered = f["dwin"] > 0
    for name in ("synack", "ackdat"):
        f[name] = f[name].where(answered, 0).round(6)
    f["tcprtt"] = (f["synack"] + f["ackdat"]).round(6)
    f["response_body_len"] = f["response_body_len"].where(f["ct_flw_http_mthd"] > 0, 0)
    f["stcpb"] = np.floor(uniform(len(f)) * 2**32).astype(np.int64) * (f["swin"] > 0)
    f["dtcpb"] = np.floor(uniform(len(f)) * 2**32).astype(np.int64) * answered
    f["ct_src_dport_ltm"] = np.minimum(f["ct_src_dport_ltm"], f["ct_src_ltm"])
    f["ct_dst_sport_ltm"] = f[["ct_dst_sport_ltm", "ct_dst_ltm", "ct_src_dport_ltm", "ct_srv_dst"]].min(
        axis=1
    )
    f["label"] = (f["attack_cat"] != "Normal").astype(int)
    return f


def decimals(digits, places=6):
    """Formatter: at most so many significant digits and decimal places, no trailing zeros."""

    def show(value):
        value = float(f"{value:.{digits}g}")
        return f"{value:.{places}f}".rstrip("0").rstrip(".")

    return show


def synthetic_flows(params, rows, seed, floor=FLOOR):
    """The synthetic flows as a table of texts, ready to be written."""
    uniform = Uniform(seed)
    names = list(params["classes"])
    counts = quotas([params["classes"][name]["rows"] for name in names], rows, floor)
    parts = []
    for name, count in zip(names, counts):
        found = params["classes"][name]["cells"]
        shares = spread_out([cell["rows"] for cell in found], count, uniform)
        parts += [
            sample_cell(cell, params["kinds"], share, uniform).assign(attack_cat=name)
            for cell, share in zip(found, shares)
            if share
        ]
    flows = coherent(pd.concat(parts, ignore_index=True), uniform)
    flows = flows.iloc[np.argsort(uniform(len(flows)), kind="stable")].reset_index(drop=True)
    flows["id"] = flows.index + 1
    for name in ("sload", "dload", "rate"):
        flows[name] = flows[name].map(decimals(10))
    for name in TIMES + ["sinpkt", "dinpkt", "tcprtt"]:
        flows[name] = flows[name].map(decimals(16))
    return flows[HEADER]


def sample(args):
    """Write synthetic flows."""
    params = json.loads(gzip.decompress(PARAMS.read_bytes()))
    text = synthetic_flows(params, args.rows, args.seed, args.floor).to_csv(index=False, lineterminator="\n")
    args.output.write_bytes(text.encode())
    print(f"{args.output}: {args.rows} rows, {len(text)} bytes", file=sys.stderr)


# --- check -----------------------------------------------------------------------------------------------


def twins(left, right, columns):
    """Share of the rows of `left` that occur in `right`, in these columns."""
    known = set(right[columns].itertuples(index=False, name=None))
    return np.mean([row in known for row in left[columns].itertuples(index=False, name=None)])


def check(args):
    """Compare the synthetic flows with the real ones, and look for copies."""
    real, made = real_flows(), pd.read_csv(args.output)
    texts = ["proto", "service", "state"]
    numeric = [c for c in HEADER if c not in texts + ["id", "stcpb", "dtcpb", "attack_cat", "label"]]
    print("Largest distance between the distribution functions of a class, real and synthetic (0 = alike):")
    for name, group in real.groupby("attack_cat"):
        other, distance = made[made["attack_cat"] == name], {}
        for column in numeric:
            grid = np.unique(group[column])
            below = [np.searchsorted(np.sort(x[column]), grid, side="right") / len(x) for x in (group, other)]
            distance[column] = np.abs(below[0] - below[1]).max()
        worst = sorted(distance, key=distance.get)[::-1][:4]
        print(
            f"  {name:15s} {len(group):6d} {len(other):5d} rows, "
            f"mean {np.mean(list(distance.values())):.3f}, worst: "
            + ", ".join(f"{c} {distance[c]:.2f}" for c in worst)
        )
    print("Rows that occur in the real data, but for id, class, sequence numbers, rate and loads:")
    columns = texts + [c for c in numeric if c not in ("rate", "sload", "dload")]
    held_out = Uniform(1)(len(real)) < len(made) / len(real)
    for name in [*sorted(real["attack_cat"].unique()), "all"]:
        of_class = [(table["attack_cat"] == name) | (name == "all") for table in (real, made)]
        alike = twins(real[held_out & of_class[0]], real[~held_out], columns)
        copied = twins(made[of_class[1]], real, columns)
        print(f"  {name:15s} real flows set aside {alike:.3f}, synthetic flows {copied:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    commands.add_parser("fit", help=fit.__doc__).set_defaults(run=fit)
    for name, run in (("sample", sample), ("check", check)):
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--output", type=Path, default=OUTPUT, help="the synthetic flows")
        if run is sample:
            command.add_argument("--rows", type=int, default=9000)
            command.add_argument("--seed", type=int, default=7)
            command.add_argument("--floor", type=int, default=FLOOR, help="rows of a class, at the least")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
