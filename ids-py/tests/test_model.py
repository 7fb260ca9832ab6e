"""Loading, saving, describing; labels, reports, documentation."""

import doctest
import inspect
import json
import pickle
import subprocess
import sys
from importlib import metadata

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ids_py
import ids_py.kafka
from conftest import CATEGORIES, FLOWS, ROOT, SMALL, same_bits
from ids_py import Model, SchemaMismatch, evaluate

matplotlib.use("Agg")


def test_saved_models_score_the_same(model, flow, tmp_path):
    path = tmp_path / "model.ids"
    model.save(path)
    assert path.read_bytes() == model.to_bytes()
    expected = model.predict_proba(flow)
    copies = [
        Model.load(path),
        Model.load(SMALL),
        Model.from_bytes(model.to_bytes()),
        pickle.loads(pickle.dumps(model)),
    ]
    for copy in copies:
        assert copy.sha256 == model.sha256 and copy == model and hash(copy) == hash(model)
        assert same_bits(copy.predict_proba(flow), expected)
    assert model != Model.from_spark(ROOT / "models/unsw-nb15") and model != "model"


def test_what_is_known_of_a_model(model):
    assert model.version == model.sha256[:12] and len(model.sha256) == 64
    assert model.labels[0] == model.benign == "Normal" and len(model.labels) == 10
    assert model.classes_.tolist() == list(model.labels)
    assert set(CATEGORIES) < set(model.inputs) and len(model.inputs) == len(model.features) == 42
    assert model.schema.name == "unsw-nb15" and model.schema.label == "attack_cat"
    info = model.info()
    assert (info["n_trees"], info["depth"], info["n_features"], info["spark_version"]) == (50, 6, 42, "3.5.9")
    assert len(info["stages"]) == 6 and info["alerts"] == {"threshold": 0.0, "by_class": {}}
    for text in (str(model), model._repr_html_()):
        assert model.version in text and "50 trees" in text and "Shellcode" in text
    assert repr(model).startswith(f"Model(version='{model.version}', schema='unsw-nb15', 50 trees")
    kinds = {column["name"]: column["kind"] for column in model.schema.columns}
    assert (kinds["dur"], kinds["proto"], kinds["attack_cat"], kinds["srcip"]) == (
        "number",
        "category",
        "label",
        "identifier",
    )


def test_features_are_in_the_order_of_the_matrix(model, rows):
    """The names tell how to assemble: with the indexers' labels in between, the matrix scores as the flows do."""
    import pyarrow.parquet as pq

    stages = sorted((SMALL / "stages").iterdir())
    index = {}
    for stage in stages:
        metadata = json.loads((stage / "metadata/part-00000").read_text())
        if metadata["class"].endswith("StringIndexerModel"):
            parameters = metadata["paramMap"] | {}
            inputs = parameters.get("inputCols") or [parameters["inputCol"]]
            outputs = parameters.get("outputCols") or [parameters["outputCol"]]
            (labels,) = (
                pq.read_table(next((stage / "data").glob("*.parquet"))).column("labelsArray").to_pylist()
            )
            for column, output, names in zip(inputs, outputs, labels):
                index[output] = column, {name: float(place) for place, name in enumerate(names)}
    matrix = np.empty((200, 42))
    for row, flow in enumerate(rows[:200]):
        for place, name in enumerate(model.features):
            if name in index:
                column, places = index[name]
                matrix[row, place] = places.get(flow[column], float(len(places)))
            else:
                matrix[row, place] = flow[name] if name in flow else flow[name.removesuffix("_imputed")]
    assert same_bits(model.raw_prediction(matrix), model.raw_prediction(rows[:200]))


def test_evaluate(model, rows):
    report = evaluate(model, FLOWS)
    golden = json.loads((ROOT / "testdata/golden/unsw-nb15-small.synthetic.json").read_text())["metrics"]
    assert report.rows == 9000 and report.accuracy == pytest.approx(golden["accuracy"], abs=1e-12)
    assert report.macro_f1 == pytest.approx(golden["macro_f1"], abs=1e-12)
    assert report.false_alarm_rate == pytest.approx(golden["false_alarm_rate"], abs=1e-12)
    assert report.confusion == golden["confusion"]
    labels = [row["attack_cat"] for row in rows]
    for data, given in [
        (rows, None),
        (pd.DataFrame(rows), None),
        (pa.Table.from_pylist(rows), None),
        (rows, labels),
    ]:
        again = evaluate(model, data, given)
        assert again.to_dict() == report.to_dict() and str(again) == str(report)
    frame = report.to_frame()
    assert frame.loc["Normal", "support"] == 4041 and list(frame.columns) == [
        "precision",
        "recall",
        "f1",
        "support",
    ]
    assert report.confusion_frame().to_numpy().sum() == 9000
    axes = report.plot()
    assert axes.get_title().startswith("macro-F1 0.488")
    report.plot(axes, normalize=False)
    matplotlib.pyplot.close("all")
    assert (
        "false alarms" in str(report) and "macro_f1=0.488" in repr(report) and "<pre>" in report._repr_html_()
    )


def test_rows_that_do_not_count_are_told(model, rows):
    data = [dict(row) for row in rows[:5]]
    data[0]["dur"] = "fast"
    data[1]["attack_cat"] = "unheard of"
    data[2]["attack_cat"] = None
    report = evaluate(model, data)
    assert (report.rows, report.unscored, report.unlabelled, report.unknown) == (2, 1, 1, 1)
    assert report.first_fault.startswith("row 0: column `dur`")
    for expected in ("1 rows have no score; the first: row 0", "1 rows have no label", "model does not know"):
        assert expected in str(report)
    with pytest.raises(SchemaMismatch, match="no labelled row .* 3 no label"):
        evaluate(model, [{**row, "attack_cat": None} for row in rows[:3]])
    with pytest.raises(SchemaMismatch, match="no labelled row"):
        evaluate(model, np.zeros((3, 42)))
    assert evaluate(model, np.zeros((3, 42)), ["Normal", " Backdoors ", "DoS"]).rows == 3
    for n_threads in (0, -1):
        with pytest.raises(ValueError, match="n_threads"):
            evaluate(model, data, n_threads=n_threads)
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        evaluate(model, np.zeros((3, 42)), ["Normal", "DoS"])
    with pytest.raises(TypeError, match="labels are class names"):
        evaluate(model, np.zeros((1, 42)), [1])


def test_labels_that_are_not_there(model, rows, tmp_path):
    """No column is another thing than no value."""
    flows = [{name: value for name, value in row.items() if name != "attack_cat"} for row in rows[:50]]
    frame = pd.DataFrame(flows)
    path, lines = tmp_path / "flows.csv", tmp_path / "flows.jsonl"
    frame.to_csv(path, index=False)
    lines.write_text("\n".join(json.dumps(flow) for flow in flows))
    labels = [row["attack_cat"] for row in rows[:50]]
    for data in (
        frame,
        pa.Table.from_pylist(flows),
        pl.DataFrame(flows),
        path,
        lines,
        ids_py.read_flows(path),
    ):
        with pytest.raises(
            SchemaMismatch, match="has no column `attack_cat`, where the labels are"
        ) as caught:
            evaluate(model, data)
        assert caught.value.columns == ("attack_cat",)
        assert evaluate(model, data, labels).rows == 50
    with pytest.raises(SchemaMismatch, match="no labelled row .* 50 no label"):
        evaluate(model, frame.assign(attack_cat=None))


def test_what_the_wheel_says():
    wheel = metadata.distribution("ids-py")
    spark = [line for line in wheel.requires or () if "extra == 'spark'" in line.replace('"', "'")]
    # PySpark's own metadata does not ask for what mapInArrow imports.
    assert any(line.startswith("pandas") for line in spark)
    files = {path.name for path in wheel.files or ()}
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= files


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", "ids_py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command(model, tmp_path):
    shown = run("inspect", SMALL)
    assert shown.returncode == 0 and shown.stdout == f"{model}\n"
    output = tmp_path / "verdicts.jsonl"
    scored = run("score", "--model", SMALL, "--input", FLOWS, "--output", output)
    assert (scored.returncode, scored.stderr) == (0, "9000 rows scored, 0 without a score\n")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 9000 and [line["class"] for line in lines[:50]] == model.predict(FLOWS)[:50].tolist()
    assert run("score", "--model", SMALL, "--input", FLOWS).stdout == output.read_text()
    figures = tmp_path / "quality.json"
    measured = run("evaluate", "--model", SMALL, "--input", FLOWS, "--json", figures)
    assert "false alarms" in measured.stdout and json.loads(figures.read_text())["rows"] == 9000
    for arguments, code, message in [
        (("inspect", "absent"), 1, "error: absent: No such file or directory"),
        (("score", "--model", SMALL, "--input", "README.md"), 1, "names no column"),
        (("score", "--model", SMALL, "--input", output, "--output", output), 1, "is the input"),
        (("evaluate", "--model", SMALL), 2, "--input"),
        ((), 2, "COMMAND"),
    ]:
        failed = run(*arguments)
        assert (
            failed.returncode == code and message in failed.stderr and "Traceback" not in failed.stderr
        ), failed
    assert "ids-py score --model" in run("--help").stdout


def documented():
    """Everything public, with what its documentation says."""
    modules = [ids_py, ids_py.errors, ids_py.evaluation, ids_py.kafka]
    things = {f"module {module.__name__}": module for module in modules}
    for module in modules:
        for name in module.__all__:
            thing = getattr(module, name)
            things.setdefault(f"{getattr(thing, '__module__', '')}.{name}", thing)
            if inspect.isclass(thing):
                for member, value in vars(thing).items():
                    if not member.startswith("_") and getattr(value, "__doc__", None):
                        things[f"{name}.{member}"] = value
    return things


def test_everything_public_is_documented():
    for name, thing in documented().items():
        if not isinstance(thing, str) and not name.endswith("__version__"):
            assert thing.__doc__, name


@pytest.mark.parametrize("name", documented())
def test_examples_run(name):
    text = documented()[name].__doc__ or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    flags = doctest.ELLIPSIS
    failures = []
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_the_readme_runs():
    text = (ROOT / "ids-py/README.md").read_text()
    examples = doctest.DocTestParser().get_doctest(text, {}, "README", None, None)
    assert len(examples.examples) > 5
    failures = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(examples, out=failures.append)
    assert not failures, "".join(failures)
