"""Runs what the pods run, on loopback: commands, environment and files are those of the rendered manifests.

A pod's address is one of 127.0.0.0/8. What differs from a cluster is said in each place: paths of mounts and of programs,
and names, which only Java is told (by a hosts file); librdkafka is given addresses.
"""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from manifests import ROOT, matches, pod

LIBS = ROOT / "target/kafka/libs"
JMX_AGENT = ROOT / "target/jmx/jmx_prometheus_javaagent.jar"
PROGRAMS = Path(os.environ.get("IDS_PROGRAMS", ROOT / "target/debug"))
SPARK = (
    ROOT
    / f"target/spark-{re.search('^ARG SPARK=(.*)$', (ROOT / 'k8s/images/Dockerfile').read_text(), re.M).group(1)}"
)
DETECTOR, SECOND_DETECTOR, PRODUCER = "127.0.0.1:29464", "127.0.0.1:29466", "127.0.0.1:29465"
# Those of which others must know the address.
PODS = ("kafka-controller", "kafka-broker", "spark-master", "spark-worker", "spark-client")


class Stage:
    """Processes in the place of pods, by the pod's name."""

    def __init__(self, directory, workloads, find):
        self.directory, self.workloads, self.find = directory, workloads, find
        self.processes, self.commands, self.restarts = {}, {}, 0
        self.model = str(directory / "model.ids")
        self.addresses = {
            f"{workload}-{ordinal}": f"127.0.{number}.{ordinal + 1}"
            for number, workload in enumerate(PODS, start=1)
            for ordinal in range(workloads[workload]["spec"]["replicas"])
        }
        self.hosts = directory / "hosts"
        self.hosts.write_text(
            f"127.0.0.1 localhost {socket.gethostname()}\n"
            + "".join(f"{ip} {name}.{name[:-2]} {name}\n" for name, ip in self.addresses.items())
            + f"{self.addresses['kafka-broker-0']} kafka\n{self.addresses['spark-master-0']} spark-master\n"
        )
        for name in ("kafka", "kafka-topics", "spark"):
            config = directory / name
            config.mkdir()
            for file, text in find("ConfigMap", name)["data"].items():
                (config / file).write_text(text)

    @property
    def brokers(self):
        """Addresses of the brokers, for clients that know no names."""
        return ",".join(
            f"{ip}:9092" for name, ip in self.addresses.items() if name.startswith("kafka-broker")
        )

    def container(self, name):
        """The container of a pod, by the pod's name."""
        (container,) = pod(self.workloads[self.workload(name)])["spec"]["containers"]
        return container

    def workload(self, name):
        """Whose pod that is."""
        return name if name in self.workloads else name.rpartition("-")[0]

    def is_taken(self, selector, name):
        """Whether a selector takes a pod."""
        return matches(selector, pod(self.workloads[self.workload(name)])["metadata"]["labels"])

    def port(self, name):
        """Where a pod tells of its metrics."""
        ports = {port["name"]: port["containerPort"] for port in self.container(name)["ports"]}
        return ports.get("metrics") or ports["web"]

    def environment(self, name, container=None):
        """The variables of a pod's container."""
        container, found = container or self.container(name), {}
        for source in container.get("envFrom", []):
            found |= self.find("ConfigMap", source["configMapRef"]["name"].rpartition("-")[0])["data"]
        for variable in container.get("env", []):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            found[variable["name"]] = {
                "metadata.name": name,
                "status.podIP": self.addresses.get(name, "127.0.0.1"),
            }.get(field, filled(variable.get("value"), found))
        return found

    def start(self, name, command, environment):
        """Starts a process; its output goes to a file of its name."""
        self.commands[name] = (command, environment)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                # However the tests end, what they started ends with them.
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_kafka_node(self, name):
        """Starts a controller or a broker by its own script."""
        scratch = self.directory / f"{name}.tmp"
        scratch.mkdir(exist_ok=True)
        self.start(
            name,
            ["sh", self.directory / "kafka/node.sh"],
            self.of_kafka(name, "kafka")
            | {
                "SCRATCH": str(scratch),
                "VOLUME": str(self.directory / f"{name}.volume"),
                "ADVERTISED_HOST": self.addresses[name],
                "JMX_AGENT": str(JMX_AGENT),
            },
        )

    def of_kafka(self, name, config):
        """What scripts of Kafka are told here beside what they are told in a pod."""
        return self.environment(name) | {
            "CONFIG": str(self.directory / config),
            "LIBS": str(LIBS),
            "JAVA_TOOL_OPTIONS": f"-Djdk.net.hosts.file={self.hosts}",
        }

    def create_topics(self):
        """Runs the Job's script; what it says."""
        done = subprocess.run(
            ["sh", str(self.directory / "kafka-topics/topics.sh")],
            env={"PATH": os.environ["PATH"], **self.of_kafka("kafka-topics", "kafka-topics")},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kafka(self, tool, *arguments):
        """Runs a tool of Kafka; what it says."""
        command = ["java", "-Xmx128m", f"-Djdk.net.hosts.file={self.hosts}", "-cp", f"{LIBS}/*", tool]
        where = ["--bootstrap-server", f"{self.addresses['kafka-broker-0']}:9092"]
        return subprocess.run(
            [*command, *where, *arguments], capture_output=True, text=True, timeout=120, check=False
        ).stdout

    def start_client(self, name, **changes):
        """Starts a producer or a detector with the environment of its pod, but for `changes`."""
        program, *arguments = self.container(name)["command"]
        environment = self.environment(name) | {"BOOTSTRAP_SERVERS": self.brokers} | changes
        self.start(name, [PROGRAMS / program, *arguments], environment)

    def start_detector(self, name="detector-0", listen=DETECTOR):
        """Starts a detector of the model that is published."""
        self.start_client(name, MODEL=self.model, LISTEN=listen)

    def start_producer(self, rate=200):
        """Starts the producer, at a rate that leaves others of this machine their share."""
        flows = "testdata/synthetic-unsw-nb15.csv"
        self.start_client("producer", FLOWS=flows, LISTEN=PRODUCER, MSG_RATE=str(rate), MALFORMED="0.001")

    def of_spark(self, name):
        """The variables of a pod of Spark, and those of its image."""
        home = next(SPARK.glob("lib/python*/site-packages/pyspark"))
        return self.environment(name) | {
            "SPARK_HOME": str(home),
            "SPARK_CONF_DIR": str(self.directory / "spark"),
            "PYSPARK_PYTHON": str(SPARK / "bin/python3"),
            "PATH": f"{home / 'bin'}:{SPARK / 'bin'}:{PROGRAMS}:{os.environ['PATH']}",
            "JAVA_TOOL_OPTIONS": f"-Djdk.net.hosts.file={self.hosts}",
            # Else their pages listen at all addresses: in a pod there is one, here there are those of others.
            "SPARK_LOCAL_IP": self.addresses[name],
        }

    def start_spark(self, name):
        """Starts a master or a worker by the command of its pod."""
        container, environment = self.container(name), self.of_spark(name)
        paths = {"/tmp/work": str(self.directory / f"{name}.work")}
        arguments = [filled(paths.get(one, one), environment) for one in container["args"]]
        program = Path(environment["SPARK_HOME"]) / "bin" / container["command"][0]
        self.start(name, [program, *container["command"][1:], *arguments], environment)

    def stop(self, name, sign=signal.SIGTERM):
        """Ends a process as a kubelet does; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(sign)
        return process.wait(timeout=120)

    def log(self, name):
        """What a process said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def check(self):
        """Starts a client again that has ended, as a kubelet does; fails where a node of Kafka has."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                said = f"{name} ended with {process.returncode}:\n{self.log(name)[-4000:]}"
                assert name.startswith(("detector", "producer")) and self.restarts < 20, said
                self.restarts += 1
                self.start(name, *self.commands[name])

    def close(self):
        """Ends all."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()


def filled(text, variables):
    """A text with the variables that it names, as a kubelet fills them in."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables[found.group(1)], text) if text else text


def get(url):
    """Status and text of an answer; 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def wait_until(what, holds, seconds=120, stage=None):
    """Waits until something holds, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if stage:
            stage.check()
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.25)
    return found
