"""examples/spark_job.py on a real Kafka, beside the detector: the same verdicts, byte for byte."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import FLOWS, ROOT, SMALL
from ids_py.kafka import Detector, DetectorConfig, Producer, ProducerConfig

KAFKA = ROOT / "target/debug/kafka"
CONNECTOR = ROOT / "target/spark-kafka"
N = 3000


@pytest.fixture(scope="module")
def bootstrap_servers():
    """A Kafka of one node with the topics of the detector and of the job."""
    if shutil.which("java") is None:
        pytest.skip("Kafka and Spark need Java 17")
    if not (KAFKA.exists() and CONNECTOR.is_dir()):
        pytest.skip("`make python-test` builds what runs Kafka, and gets its jars with Maven")
    further = ["--also", "demo.verdicts.spark", "--also", "demo.dlq.spark"]
    with subprocess.Popen([KAFKA, "--partitions", "3", *further], stdout=subprocess.PIPE, text=True) as kafka:
        line = kafka.stdout.readline()
        assert line.startswith("export BOOTSTRAP_SERVERS="), line
        yield line.strip().partition("=")[2]
        kafka.send_signal(signal.SIGINT)
        kafka.communicate()


def submitted(bootstrap_servers, checkpoint, log):
    """The running job; what Spark says goes to the file `log`."""
    command = [
        shutil.which("spark-submit", path=os.path.dirname(sys.executable)),
        *("--master", "local[2]", "--jars", ",".join(map(str, sorted(CONNECTOR.glob("*.jar"))))),
        *("--conf", "spark.ui.enabled=false", "--conf", "spark.driver.host=127.0.0.1"),
        *("--conf", "spark.driver.bindAddress=127.0.0.1"),
        str(ROOT / "examples/spark_job.py"),
        *("--bootstrap-servers", bootstrap_servers, "--model", str(SMALL)),
        *("--checkpoint", str(checkpoint), "--rows-per-batch", "300", "--available-now"),
    ]
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    with log.open("w") as file:
        # A group of its own: the JVM and its Python processes can be killed together.
        return subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=file, text=True
        )


def messages(bootstrap_servers, topic):
    """All committed messages of a topic, read by a client that is not ours."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test"})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in range(3)}
    consumer.assign([TopicPartition(topic, p, 0) for p in range(3)])
    found, deadline = [], time.monotonic() + 60
    while len(found) < sum(ends.values()):
        assert time.monotonic() < deadline, f"{len(found)} of {ends} messages of {topic}"
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message)
    consumer.close()
    return found


def by_key(found):
    """Partition, value and own headers of verdicts by key; each key once."""
    all = {m.key(): (m.partition(), m.value(), sorted(m.headers() or [])) for m in found}
    assert len(all) == len(found)
    return all


def dead_letters(found):
    """Key, value and headers of dead letters by the place of their record."""
    all = {}
    for message in found:
        headers = dict(message.headers())
        place = headers["ids.topic"], headers["ids.partition"], headers["ids.offset"]
        all[place] = message.key(), message.value(), sorted(message.headers())
    return all


def test_the_job_says_what_the_detector_says_and_loses_nothing_when_killed(
    bootstrap_servers, model, tmp_path
):
    kafka = {"bootstrap_servers": bootstrap_servers}
    sent = Producer(ProducerConfig(rate=20_000, malformed=0.1, **kafka)).run(FLOWS, records=N)
    assert sent.records == N
    with Detector(model, DetectorConfig(**kafka)) as detector:
        for _ in range(N):
            next(detector)

    log = tmp_path / "log"
    killed = submitted(bootstrap_servers, tmp_path / "checkpoint", log)
    assert '"batchId": 0' in killed.stdout.readline(), log.read_text()[-5000:]
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    again = submitted(bootstrap_servers, tmp_path / "checkpoint", log)
    try:
        batches, _ = again.communicate(timeout=120)
    finally:
        again.kill()
    assert again.returncode == 0, log.read_text()[-5000:]
    assert "batchId" in batches, "it was killed when all was done"

    found = messages(bootstrap_servers, "demo.verdicts.spark")
    # The micro-batch that was not committed is said again, in the same words.
    said = {m.key(): m.value() for m in found}
    assert all(said[m.key()] == m.value() for m in found)
    detector_said = by_key(messages(bootstrap_servers, "demo.verdicts"))
    spark_said = {m.key(): (m.partition(), m.value(), sorted(m.headers() or [])) for m in found}
    assert len(spark_said) == N and spark_said == detector_said
    theirs = dead_letters(messages(bootstrap_servers, "demo.dlq.spark"))
    ours = dead_letters(messages(bootstrap_servers, "demo.dlq"))
    assert len(theirs) > N / 20 and theirs == ours


def test_what_is_wrong_with_the_model_is_said_before_spark_starts(tmp_path):
    (tmp_path / "model.ids").write_bytes(b"no model")
    command = [sys.executable, ROOT / "examples/spark_job.py", "--checkpoint", tmp_path, "--model"]
    for model in ("model.ids", "none.ids"):
        job = subprocess.run([*command, tmp_path / model], capture_output=True, text=True, check=False)
        assert job.returncode == 1 and job.stderr.startswith("error: --model: ") and model in job.stderr
        assert "Traceback" not in job.stderr
