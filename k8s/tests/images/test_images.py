"""What is in the images: no more than it takes, owned by root, run as another user on a file system that cannot be written."""

import re
import stat

import pytest

from manifests import pod
from stage import get, wait_until

MIB = 2**20
# What the files of each may take. `make images-check` says what they do take.
LIMITS = {"ids": 48 * MIB, "ids-kafka": 380 * MIB, "ids-spark": 1150 * MIB}
DETECTOR, PRODUCER = "127.0.6.1:9464", "127.0.7.1:9465"


@pytest.mark.parametrize("name, limit", LIMITS.items())
def test_user_and_size(images, name, limit, capsys):
    image = images[name]
    assert image.config["User"] == "10001:10001"
    with capsys.disabled():
        print(f"\n{name}: {image.size / MIB:.1f} MiB of files")
    assert image.size < limit


@pytest.mark.parametrize("name", LIMITS)
def test_the_user_of_the_pod_owns_nothing(images, name):
    for path in images[name].root.rglob("*"):
        status = path.lstat()
        assert status.st_uid != 10001, path
        if stat.S_ISREG(status.st_mode):
            assert not status.st_mode & stat.S_IWOTH, path


def test_the_smallest_holds_no_shell_and_no_package_manager(images):
    names = {path.name for path in images["ids"].root.rglob("*")}
    assert {"detector", "producer", "ids"} <= names
    assert not names & {"sh", "bash", "dash", "busybox", "apt", "dpkg", "perl", "python3"}


def test_the_topics_are_created(kafka):
    said = kafka.run_once("kafka-topics", kafka.container("kafka-topics"))
    assert len(re.findall("PartitionCount", said)) == 6
    kafka.check()


def test_flows_become_verdicts(kafka):
    (init,) = pod(kafka.workloads["detector"])["spec"]["initContainers"]
    for _ in range(2):
        kafka.run_once("detector-0", init)
    kafka.start_pod("detector-0", LISTEN=DETECTOR)
    kafka.start_pod("producer", LISTEN=PRODUCER, MSG_RATE="50")
    for name, address in [("producer", PRODUCER), ("detector", DETECTOR)]:
        wait_until(f"{name} is ready", lambda a=address: get(f"http://{a}/readyz")[0] == 200, stage=kafka)
    wait_until("verdicts", lambda: counter("ids_verdicts_total") > 500, stage=kafka)
    assert counter("ids_dead_letters_total") == 0


def counter(name):
    """What the detector tells of a counter, all its labels together."""
    lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", get(f"http://{DETECTOR}/metrics")[1], re.MULTILINE)
    return sum(map(float, lines))


@pytest.fixture(scope="module")
def spark(kafka):
    """Spark's pods, each bound to its address: in a pod there is no other."""
    for name, ip in kafka.addresses.items():
        if name.startswith("spark-"):
            kafka.start_pod(name, SPARK_LOCAL_IP=ip)
    master = f"http://{kafka.addresses['spark-master-0']}:8080/metrics/master/prometheus"
    wait_until(
        "workers",
        lambda: re.search(r"^metrics_master_aliveWorkers_Value\S* 2$", get(master)[1], re.M),
        stage=kafka,
    )
    return kafka


def test_the_training_publishes_a_model_that_the_detector_takes_over(spark):
    reloads = counter("ids_model_reloads_total")
    said = spark.execute("spark-client-0", "train-model", "--model", "unsw-nb15-small")
    assert "published: /models/model.ids" in said
    wait_until(
        "the model is taken over", lambda: counter("ids_model_reloads_total") == reloads + 1, stage=spark
    )
    assert counter("ids_model_refusals_total") == 0


def test_the_streaming_job_gives_verdicts(spark):
    said = spark.execute("spark-client-0", "submit-spark-job")
    assert "the streaming job runs" in said
    tool = ["java", "-Xmx128m", "-cp", "/opt/kafka/libs/*", "org.apache.kafka.tools.GetOffsetShell"]
    asked = [*tool, "--bootstrap-server", "kafka:9092", "--topic", "demo.verdicts.spark"]

    def verdicts():
        lines = spark.execute("kafka-broker-0", *asked).split()
        return sum(int(line.rpartition(":")[2]) for line in lines)

    wait_until("its verdicts", lambda: verdicts() > 500, seconds=180, stage=spark)
    assert "runs already" in spark.execute("spark-client-0", "submit-spark-job")
    log = spark.log("spark-client-0")
    assert "ERROR" not in log, log[-4000:]


def test_pods_end_when_they_are_asked_to(spark):
    for name in ("producer", "detector-0", "spark-client-0", "kafka-broker-2"):
        assert spark.end(name) in (0, 143), name
