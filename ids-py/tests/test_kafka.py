"""The pipelines from Python, on the Kafka inside the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

import ids_py
from conftest import FLOWS, ROOT, SMALL
from ids_py.kafka import Detector, DetectorConfig, EmbeddedKafka, Producer, ProducerConfig


@pytest.fixture
def kafka():
    with EmbeddedKafka() as kafka:
        kafka.create_topics("demo", partitions=3)
        yield kafka


def test_every_flow_gets_the_verdict_that_the_model_gives(model, kafka, rows):
    n = 500
    with Detector(model, DetectorConfig(**kafka.connection)) as detector:
        assert detector.running
        producer = Producer(ProducerConfig(rate=5000, malformed=0.1, **kafka.connection))
        sent = producer.run(ids_py.read_flows(FLOWS), records=n)
        assert sent.records == n and sent.seconds > 0
        seen = [next(detector) for _ in range(n)]
        assert detector.poll(0.05) is None
    assert not detector.running
    places = {(said["origin"]["partition"], said["origin"]["offset"]) for said in seen}
    assert len(places) == n
    dead = [said for said in seen if "dead_letter" in said]
    stats = detector.stats
    assert stats["records"] == n and stats["verdicts"] + stats["dead_letters"] == n
    assert 0 < len(dead) == stats["dead_letters"] == sum(stats["dead_letters_by_kind"].values())
    counts = {}
    for said in seen:
        if "class" in said:
            counts[said["class"]] = counts.get(said["class"], 0) + 1
    assert counts == stats["verdicts_by_class"]
    assert all(said["model"] == model.version for said in seen)


def test_verdicts_equal_what_the_model_says(model, kafka, scores):
    """A partition of its own keeps the order of the flows."""
    kafka.create_topics("one", partitions=1)
    with Detector(model, DetectorConfig(topic="one", **kafka.connection)) as detector:
        Producer(ProducerConfig(topic="one", rate=5000, **kafka.connection)).run(FLOWS, records=300)
        verdicts = [next(detector) for _ in range(300)]
    verdicts.sort(key=lambda verdict: verdict["origin"]["offset"])
    for row, verdict in enumerate(verdicts):
        assert verdict["class"] == scores.label[row]
        assert list(verdict["probabilities"].values()) == scores.probability[row].tolist()


def test_iteration_ends_when_the_detector_is_stopped(model, kafka):
    detector = Detector(model, DetectorConfig(**kafka.connection))
    detector.start()
    with pytest.raises(RuntimeError, match="runs already"):
        detector.start()
    Producer(ProducerConfig(rate=5000, **kafka.connection)).run(FLOWS, records=100)
    while detector.stats["verdicts"] < 100:
        time.sleep(0.01)
    detector.stop()
    detector.stop()
    assert len(list(detector)) == 100
    detector.start()
    detector.stop()
    assert list(detector) == []


def test_settings_that_cannot_work(model):
    for settings, message in [
        ({"rate": 0}, "a rate above 0"),
        ({"burst_power": 1.0}, "1.1 or more"),
        ({"malformed": 2}, "a probability"),
    ]:
        with pytest.raises(ids_py.ConfigError, match=message):
            Producer(ProducerConfig(**settings))
    with pytest.raises(ids_py.ConfigError, match="no attack class"):
        Detector(model, DetectorConfig(class_thresholds={"Dos": 0.5}))
    with pytest.raises(ids_py.ConfigError, match="probability"):
        Detector(model, DetectorConfig(alert_threshold=7))
    with pytest.raises(ids_py.ConfigError, match="brokers"):
        EmbeddedKafka(0)
    with pytest.raises(TypeError):
        ProducerConfig("127.0.0.1:9092")
    with pytest.raises(RuntimeError, match="not been started"):
        Detector(model).poll(0.01)


def test_times_that_are_none(model, kafka):
    with Detector(model, DetectorConfig(**kafka.connection)) as detector:
        for seconds in (-1, -1e300, float("nan"), float("-inf")):
            with pytest.raises(ids_py.ConfigError, match="timeout: .* is no number of seconds"):
                detector.poll(seconds)
            with pytest.raises(ids_py.ConfigError, match="seconds: .* is no number of seconds"):
                Producer(ProducerConfig(**kafka.connection)).run(FLOWS, seconds=seconds)
        assert detector.poll(0) is None
    for seconds in (1e19, 1e300, float("inf")):
        sent = Producer(ProducerConfig(rate=5000, **kafka.connection)).run(FLOWS, records=3, seconds=seconds)
        assert sent.records == 3


def test_a_group_that_is_not_joined(model, kafka):
    detector = Detector(model, DetectorConfig(group_id="slow", **kafka.connection))
    with pytest.raises(ids_py.KafkaError, match="group `slow` was not joined within 0 s.* Look at"):
        detector._inner.start(0.0)
    assert not detector.running
    with detector:
        assert detector.running


def test_kafka_that_is_not_there(model, kafka):
    with pytest.raises(ids_py.KafkaError, match="does not exist|Unknown topic"):
        Detector(model, DetectorConfig(topic="absent", **kafka.connection)).start()
    nowhere = {"bootstrap_servers": "127.0.0.1:1", "properties": {"log_level": "0"}}
    with pytest.raises(ids_py.KafkaError):
        Detector(model, DetectorConfig(**nowhere)).start()
    with pytest.raises(ids_py.KafkaError):
        Producer(ProducerConfig(**nowhere)).run(FLOWS, records=1)
    with pytest.raises(ids_py.ConfigError, match="cannot be set"):
        Producer(ProducerConfig(properties={"acks": "0"})).run(FLOWS, records=1)
    with pytest.raises(FileNotFoundError):
        Producer(ProducerConfig(**kafka.connection)).run("absent.csv")
    with pytest.raises(TypeError, match="flows are a file"):
        Producer(ProducerConfig(**kafka.connection)).run(7)
    kafka.close()
    with pytest.raises(RuntimeError, match="closed"):
        kafka.create_topics("demo")


INTERRUPTED = f"""
from ids_py import Model
from ids_py.kafka import *
kafka = EmbeddedKafka()
kafka.create_topics("demo")
with Detector(Model.from_spark({str(SMALL)!r}), DetectorConfig(**kafka.connection)) as detector:
    try:
        print("runs", flush=True)
        WAIT
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(detector.running, flush=True)
"""


@pytest.mark.parametrize(
    "wait",
    [
        "next(detector)",
        "detector.poll(100)",
        "detector.poll(1e19)",
        "detector.poll(float('inf'))",
        f"Producer(ProducerConfig(**kafka.connection)).run({str(FLOWS)!r})",
    ],
)
def test_ctrl_c(wait):
    """Whatever it waits for, it ends in order."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace("WAIT", wait)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "runs\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "interrupted\nFalse\n")
