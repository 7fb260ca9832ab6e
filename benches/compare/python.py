"""How much does Python cost? ids_py against ids-core on the same 100,000 rows, and one row against ONNX Runtime.

The rows are the synthetic flows, repeated; the model is models/unsw-nb15-small. ONNX Runtime scores a scikit-learn
forest of the same shape (50 trees of depth 6, 42 features, 10 classes), fitted to the same flows. Everything runs on
one core, in turns, and the medians are printed and written as JSON. `make compare-python` installs what it needs.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS, ROUNDS, CALLS = 100_000, 7, 5_000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rust", type=Path, required=True, help="the program compare-rust")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    options = parser.parse_args()
    # Before anything starts threads of its own.
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})

    import numpy as np
    import onnxruntime
    import pyarrow as pa
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    import ids_py

    os.chdir(ROOT)
    model = ids_py.Model.from_spark("models/unsw-nb15-small")
    flows = ids_py.read_flows("testdata/synthetic-unsw-nb15.csv", model)
    table = pa.table(flows)
    labels = table.column("attack_cat").to_pylist()
    table = pa.concat_tables([table] * (ROWS // len(table) + 1)).slice(0, ROWS).combine_chunks()
    table = table.select(model.inputs)

    # A matrix of the same width and kind as the model's own features.
    columns = [flows[name] for name in model.inputs]
    matrix = np.column_stack(
        [np.unique(c.astype(str), return_inverse=True)[1] if c.dtype == object else c for c in columns]
    ).astype(float)
    forest = RandomForestClassifier(n_estimators=50, max_depth=6, random_state=7).fit(matrix, labels)
    onnx = to_onnx(forest, matrix[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    onnx_row = {name: matrix[:1].astype(np.float32)}

    with open("testdata/synthetic-unsw-nb15.csv") as file:
        line = next(csv.DictReader(file))
    texts = ("proto", "service", "state")
    row = {name: line[name] if name in texts else float(line[name]) for name in model.inputs}
    vector = np.zeros(model.n_features_in_)
    vector[: matrix.shape[1]] = matrix[0]

    # The answers, before anything is timed.
    assert (model.predict_proba(row) == model.predict_proba(table.slice(0, 1))[0]).all()
    assert model.predict_proba(table, n_threads=1).shape == (ROWS, 10)
    assert abs(session.run(None, onnx_row)[1] - forest.predict_proba(matrix[:1])).max() < 1e-3

    cases = {
        "100,000 rows through Arrow, ids_py": lambda: once(lambda: model.predict_proba(table, n_threads=1)),
        "one row, NumPy vector, ids_py": lambda: each(lambda: model.predict_proba(vector)),
        "one row, dict, ids_py": lambda: each(lambda: model.predict_proba(row)),
        "one row, ONNX Runtime": lambda: each(lambda: session.run(None, onnx_row)),
    }
    seconds = {"100,000 rows, ids-core": []} | {case: [] for case in cases}
    for _ in range(ROUNDS):
        run = subprocess.run([options.rust, str(ROWS), "3"], capture_output=True, text=True, check=True)
        seconds["100,000 rows, ids-core"].append(statistics.median(json.loads(run.stdout)))
        for case, measure in cases.items():
            seconds[case].append(measure())
    medians = {case: statistics.median(values) for case, values in seconds.items()}
    rust, arrow, vector_s, dict_s, onnx_s = medians.values()
    figures = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "load_1min": os.getloadavg()[0],
        "rounds": ROUNDS,
        "median_seconds": medians,
        "all_seconds": seconds,
        "arrow_over_rust": arrow / rust,
        "onnx_over_vector": onnx_s / vector_s,
        "onnx_over_dict": onnx_s / dict_s,
    }
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{processor()}, one of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {ROUNDS}")
    for case, median in medians.items():
        print(f"{case:40}{1e3 * median:10.2f} ms" if median > 1e-3 else f"{case:40}{1e6 * median:10.2f} us")
    print(f"Arrow takes {arrow / rust:.2f} times as long as ids-core (at most 1.3 is wanted)")
    print(f"a vector is {onnx_s / vector_s:.1f} times as fast as ONNX Runtime (at least 3 is wanted)")
    print(f"a dict is {onnx_s / dict_s:.1f} times as fast as ONNX Runtime (at least 1 is wanted)")


def once(call):
    """Median seconds of three calls."""
    return statistics.median(timed(call, 1) for _ in range(3))


def each(call):
    """Median seconds of a call, over five runs of many."""
    return statistics.median(timed(call, CALLS) for _ in range(5))


def timed(call, n):
    start = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - start) / n


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
