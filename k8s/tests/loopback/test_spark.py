"""What Spark's pods run, run for real: a master, workers, and the training, whose model the detector takes over."""

import json
import os
import re
import shutil
import subprocess
import time

import pytest

import picture
from manifests import ROOT
from prometheus import ask, value
from stage import wait_until


@pytest.fixture(scope="module")
def spark(prometheus):
    """Master and workers, beside a Kafka and a detector that have been through much, and few flows: cores are few."""
    if "producer" in prometheus.processes:
        prometheus.stop("producer")
    if "detector-0" not in prometheus.processes:
        prometheus.start_detector()
    prometheus.start_producer(rate=20)
    for name in prometheus.addresses:
        if name.startswith(("spark-master", "spark-worker")):
            prometheus.start_spark(name)
    wait_until("workers", lambda: value("metrics_master_aliveWorkers_Value") == 2, stage=prometheus)
    return prometheus


def train(stage, *arguments):
    """Runs the training as `make train` does in the client's pod."""
    jobs = stage.directory / "jobs"
    jobs.mkdir(exist_ok=True)
    for path in ("models/train.py", "k8s/jobs/train_model.py"):
        shutil.copy(ROOT / path, jobs)
    options = ["--model", "unsw-nb15-small", "--out", stage.directory / "models", "--publish", stage.model]
    return subprocess.run(
        [
            ROOT / "k8s/jobs/train-model",
            *options,
            "--flows",
            ROOT / "testdata/synthetic-unsw-nb15.csv",
            *arguments,
        ],
        env=stage.of_spark("spark-client-0") | {"JOBS": str(jobs), "HOME": str(stage.directory)},
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_the_training_publishes_a_model_and_the_detector_takes_it_over(spark):
    reloads = value("sum(ids_model_reloads_total)")
    before = (ROOT / spark.model).read_bytes()
    done = train(spark)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search("fitted in", done.stdout) and "published:" in done.stdout
    (spark.directory / "train.log").write_text(done.stdout + done.stderr)
    assert (ROOT / spark.model).read_bytes() != before
    wait_until(
        "the detector has taken it over",
        lambda: value("sum(ids_model_reloads_total)") == reloads + 1,
        stage=spark,
    )
    assert value("sum(ids_model_refusals_total)") == 0
    wait_until("verdicts go on", lambda: (value("sum(rate(ids_verdicts_total[15s]))") or 0) > 0, stage=spark)


def test_the_names_of_its_metrics_are_those_that_are_told(spark):
    """By what Prometheus has of all of Spark, the driver of the training included. WRITE_SCRAPES=1 writes them anew."""
    told = {
        line["metric"]["__name__"] for line in ask("query", query='last_over_time({container="spark"}[1h])')
    }
    path = ROOT / "k8s/tests/scrapes/spark.txt"
    told = {name for name in told if re.match("metrics_(master|worker|executor)_", name)}
    if os.environ.get("WRITE_SCRAPES"):
        path.write_text("\n".join(sorted(told)) + "\n")
    committed = set(path.read_text().split())
    assert told and committed <= told, f"nobody tells of {sorted(committed - told)}"


def test_expressions_of_its_dashboard_have_values(spark, find):
    texts = find("ConfigMap", "ids-dashboards")["data"]
    for panel in json.loads(texts["spark.json"])["panels"]:
        for target in panel["targets"]:
            # The driver is gone by now.
            expression = f"last_over_time(({target['expr'].replace('$__rate_interval', '30s')})[30m:5s])"
            wait_until(expression, lambda e=expression: value(e) is not None, stage=spark)


def test_a_picture_of_the_dashboards(spark, find, tmp_path):
    """Of all that was scraped. WRITE_PICTURES=1 puts them into docs/."""
    texts = find("ConfigMap", "ids-dashboards")["data"]
    (first,) = {
        round(float(line["value"][1]))
        for line in ask("query", query="min(min_over_time(timestamp(up)[1h:5s]))")
    }
    for name in ("detection", "spark"):
        path = tmp_path / f"dashboard-{name}.png"
        empty = picture.draw(json.loads(texts[f"{name}.json"]), ask, first, time.time(), path)
        assert empty == []
        assert path.stat().st_size < 400_000
        if os.environ.get("WRITE_PICTURES"):
            shutil.copy(path, ROOT / "docs")
