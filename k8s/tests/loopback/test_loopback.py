"""What the manifests configure, run for real: 3 controllers, 3 brokers, the topics' job, the producer, detectors, and a
Prometheus that scrapes them and sees alerts fire and clear."""

import json
import os
import re
import signal
import subprocess

import pytest

from manifests import ROOT
from names import names
from prometheus import fires, value
from stage import DETECTOR, PRODUCER, PROGRAMS, SECOND_DETECTOR, get, wait_until


def test_the_job_creates_the_topics_and_can_run_again(stage, find):
    again = stage.create_topics()
    described = [line.split("\t") for line in again.splitlines() if "PartitionCount" in line]
    topics = {line[0].removeprefix("Topic: ").strip(): "\t".join(line) for line in described}
    wanted = {
        line.split()[0].replace("{topic}", "demo"): line.split()
        for line in find("ConfigMap", "kafka-topics")["data"]["topics.txt"].splitlines()
        if not line.startswith("#")
    }
    assert topics.keys() == wanted.keys()
    for topic, (_, partitions, mebibytes) in wanted.items():
        assert f"PartitionCount: {partitions}" in topics[topic]
        assert "ReplicationFactor: 3" in topics[topic]
        assert "min.insync.replicas=2" in topics[topic]
        assert f"retention.bytes={int(mebibytes) * 2**20}" in topics[topic]
    stage.check()


def test_verdicts_come_of_flows(clients):
    wait_until(
        "verdicts",
        lambda: float(
            dict(re.findall(r"^(ids_records_total) (\S+)$", get(f"http://{DETECTOR}/metrics")[1], re.M))[
                "ids_records_total"
            ]
        )
        > 500,
        stage=clients,
    )
    assert "unknown" not in clients.log("detector-0")


@pytest.mark.parametrize("source", ["detector", "producer", "kafka"])
def test_the_names_of_metrics_are_those_that_are_told(clients, source):
    """The committed lists, by which expressions are checked, against scrapes of the real thing.

    WRITE_SCRAPES=1 writes them anew."""
    addresses = {
        "detector": [DETECTOR],
        "producer": [PRODUCER],
        "kafka": [f"{ip}:9404" for name, ip in clients.addresses.items() if name.startswith("kafka-")],
    }
    told = set().union(*(names(get(f"http://{address}/metrics")[1]) for address in addresses[source]))
    path = ROOT / f"k8s/tests/scrapes/{source}.txt"
    assert told
    if os.environ.get("WRITE_SCRAPES"):
        path.write_text("\n".join(sorted(told)) + "\n")
    committed = path.read_text().split()
    assert set(committed) <= told, f"nobody tells of {sorted(set(committed) - told)}"


def test_offsets_too_are_acknowledged_by_two(clients):
    """Kafka's own topics have the cluster's setting."""
    described = clients.kafka(
        "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", "__consumer_offsets"
    )
    assert "min.insync.replicas=2" in described, described


def test_all_are_scraped(prometheus):
    wait_until("all targets are up", lambda: value('sum(up{container!="spark"})') == 8, stage=prometheus)
    wait_until("three brokers are known", lambda: value("max(kafka_active_brokers)") == 3, stage=prometheus)
    # Lateness is the machine's, which may have other things to do.
    wait_until("all is quiet", lambda: value('count(ALERTS{severity="critical"})') is None, stage=prometheus)


def test_expressions_of_dashboards_have_values(prometheus, find):
    """But those of Spark, which is not here yet."""
    texts = find("ConfigMap", "ids-dashboards")["data"]
    wait_until("dead letters", lambda: value("sum(ids_dead_letters_total)"), stage=prometheus)
    for file in ("detection.json", "kafka.json"):
        for panel in json.loads(texts[file])["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "30s")
                where = f"{file}: {panel['title']}: {expression}"
                wait_until(where, lambda e=expression: value(e) is not None, stage=prometheus)


def test_a_broker_is_lost_and_comes_back(prometheus):
    prometheus.stop("kafka-broker-2", signal.SIGKILL)
    wait_until("the alert fires", lambda: fires("BrokerLost"), seconds=90, stage=prometheus)
    wait_until(
        "verdicts go on", lambda: (value("sum(rate(ids_verdicts_total[15s]))") or 0) > 0, stage=prometheus
    )
    prometheus.start_kafka_node("kafka-broker-2")
    wait_until("the alert clears", lambda: not fires("BrokerLost"), stage=prometheus)
    wait_until(
        "all replicas are in sync",
        lambda: value("sum(kafka_under_replicated_partitions)") == 0,
        stage=prometheus,
    )


def test_brokers_restart_one_by_one_and_nothing_is_refused(prometheus):
    for ordinal in range(3):
        prometheus.stop(f"kafka-broker-{ordinal}")
        prometheus.start_kafka_node(f"kafka-broker-{ordinal}")
        wait_until(
            "the broker is back in sync",
            lambda: value("max(kafka_active_brokers)") == 3
            and value("sum(kafka_under_replicated_partitions)") == 0
            and value("count(kafka_leader_partitions)") == 3,
            stage=prometheus,
        )
    assert value("sum(ids_delivery_errors_total) + sum(ids_producer_delivery_errors_total)") == 0
    prometheus.check()


def test_a_second_detector_takes_its_share(prometheus):
    prometheus.start_detector("detector-1", SECOND_DETECTOR)
    wait_until("partitions are shared", lambda: value("min(ids_assigned_partitions)") == 3, stage=prometheus)
    assert prometheus.stop("detector-1") == 0
    wait_until(
        "the other has all",
        lambda: value('ids_assigned_partitions{pod="detector-0"}') == 6,
        seconds=90,
        stage=prometheus,
    )


def test_the_detector_is_gone_and_comes_back(prometheus):
    assert prometheus.stop("detector-0") == 0
    wait_until("the alert fires", lambda: fires("DetectorsGone"), seconds=60, stage=prometheus)
    prometheus.start_detector()
    wait_until("the alert clears", lambda: not fires("DetectorsGone"), stage=prometheus)
    # Nothing is told of the lag until partitions are assigned.
    wait_until(
        "the lag is worked off", lambda: value("sum(ids_lag_records) < 1000") is not None, stage=prometheus
    )


def test_nothing_was_lost(prometheus):
    """After all of the above."""
    assert prometheus.stop("producer") == 0
    wait_until("the lag is worked off", lambda: value("sum(ids_lag_records)") == 0, stage=prometheus)
    done = subprocess.run(
        [PROGRAMS / "ids", "recon", "--model", "models/unsw-nb15-small", "--topic", "demo"],
        cwd=ROOT,
        env={"BOOTSTRAP_SERVERS": prometheus.brokers},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert prometheus.stop("detector-0") == 0
