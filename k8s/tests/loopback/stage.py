"""Runs what the pods run, on loopback: commands, environment and files are those of the rendered manifests.

A pod's address is one of 127.0.0.0/8. What differs from a cluster is said in each place: paths of mounts and of programs,
and names, which only Java is told (by a hosts file); librdkafka is given addresses.
"""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from manifests import ROOT, pod

LIBS = ROOT / "target/kafka/libs"
JMX_AGENT = ROOT / "target/jmx/jmx_prometheus_javaagent.jar"
PROGRAMS = Path(os.environ.get("IDS_PROGRAMS", ROOT / "target/debug"))


class Stage:
    """Processes in the place of pods, by the pod's name."""

    def __init__(self, directory, workloads, find):
        self.directory, self.workloads, self.find = directory, workloads, find
        self.processes, self.commands, self.restarts = {}, {}, 0
        self.addresses = {}
        for number, (workload, replicas) in enumerate(
            [("kafka-controller", 3), ("kafka-broker", 3)], start=1
        ):
            for ordinal in range(replicas):
                self.addresses[f"{workload}-{ordinal}"] = f"127.0.{number}.{ordinal + 1}"
        self.hosts = directory / "hosts"
        self.hosts.write_text(
            "127.0.0.1 localhost\n"
            + "".join(f"{ip} {name}.{name[:-2]} {name}\n" for name, ip in self.addresses.items())
            + f"{self.addresses['kafka-broker-0']} kafka\n"
        )
        for name in ("kafka", "kafka-topics"):
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

    def environment(self, workload, name):
        """The variables of a pod's container."""
        (container,) = pod(self.workloads[workload])["spec"]["containers"]
        found = {}
        for source in container.get("envFrom", []):
            found |= self.find("ConfigMap", source["configMapRef"]["name"].rpartition("-")[0])["data"]
        for variable in container.get("env", []):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            found[variable["name"]] = {
                "metadata.name": name,
                "status.podIP": self.addresses.get(name, "127.0.0.1"),
            }.get(field, variable.get("value"))
        return found

    def start(self, name, command, environment):
        """Starts a process; its output goes to a file of its name."""
        self.commands[name] = (command, environment)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                list(map(str, command)),
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
            self.of_kafka(name[:-2], name, "kafka")
            | {
                "SCRATCH": str(scratch),
                "VOLUME": str(self.directory / f"{name}.volume"),
                "ADVERTISED_HOST": self.addresses[name],
                "JMX_AGENT": str(JMX_AGENT),
            },
        )

    def of_kafka(self, workload, name, config):
        """What scripts of Kafka are told here beside what they are told in a pod."""
        return self.environment(workload, name) | {
            "CONFIG": str(self.directory / config),
            "LIBS": str(LIBS),
            "JAVA_TOOL_OPTIONS": f"-Djdk.net.hosts.file={self.hosts}",
        }

    def create_topics(self):
        """Runs the Job's script; what it says."""
        done = subprocess.run(
            ["sh", str(self.directory / "kafka-topics/topics.sh")],
            env={"PATH": os.environ["PATH"], **self.of_kafka("kafka-topics", "kafka-topics", "kafka-topics")},
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

    def start_client(self, workload, name, **changes):
        """Starts a producer or a detector with the environment of its pod, but for `changes`."""
        (container,) = pod(self.workloads[workload])["spec"]["containers"]
        environment = self.environment(workload, name) | {"BOOTSTRAP_SERVERS": self.brokers} | changes
        self.start(name, [PROGRAMS / container["command"][0], *container["command"][1:]], environment)

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
