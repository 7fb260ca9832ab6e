"""A control plane on loopback: etcd, the API server, the controllers, the scheduler, and nodes that kwok plays. Pods report
what they should, and no container runs."""

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

import yaml

from manifests import ROOT

HOME = ROOT / "target/control-plane"
NAMES = "kubernetes.default.svc"


def free_port():
    """A port on loopback that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ControlPlane:
    """Running programs; `kubeconfig` leads to them, by the context `minikube`."""

    def __init__(self, directory):
        self.directory, self.processes = Path(directory), []
        self.kubeconfig = self.directory / "kubeconfig"
        client, peer, secure = free_port(), free_port(), free_port()
        etcd, self.url = f"http://127.0.0.1:{client}", f"https://127.0.0.1:{secure}"
        key = self.directory / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        token = secrets.token_hex(16)
        (self.directory / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')
        self.write_kubeconfig(token)

        peers = f"http://127.0.0.1:{peer}"
        self.start(
            "etcd",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            # Nothing here outlives the test.
            "--unsafe-no-fsync",
        )
        self.start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--cert-dir={self.directory}/certificates",
            f"--service-account-issuer=https://{NAMES}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.directory}/tokens.csv",
            "--authorization-mode=RBAC",
            # As on any cluster: it is the namespace that refuses.
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
        )
        self.wait(
            "the API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0
        )
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={key}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
        )
        self.start(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
        )
        stages = sorted((HOME / "stages").glob("*.yaml"))
        self.start(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            *(f"--config={stage}" for stage in stages),
        )
        self.wait(
            "service accounts",
            lambda: self.kubectl("get", "serviceaccount", "default", check=False).returncode == 0,
        )

    def write_kubeconfig(self, token):
        cluster = {"server": self.url, "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "minikube", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "minikube", "context": {"cluster": "minikube", "user": "admin"}}],
            "current-context": "minikube",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def start(self, program, *arguments):
        """Starts a program; its output goes to a file of its name."""
        with (self.directory / f"{program}.log").open("wb") as log:
            command = [HOME / "bin" / program, *arguments]
            self.processes.append(subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log))

    @contextlib.contextmanager
    def halted(self, program):
        """A program does nothing meanwhile."""
        (process,) = (one for one in self.processes if one.args[0] == HOME / "bin" / program)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def kubectl(self, *arguments, check=True, stdin=None):
        """Runs kubectl."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, f"kubectl {arguments}: {done.stdout}{done.stderr}"
        return done

    def apply(self, *objects, check=True):
        """Applies objects as the Makefile does, strictly."""
        text = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text, check=check)

    def get(self, kind, namespace="ids", *arguments):
        """All objects of a kind."""
        done = self.kubectl("--namespace", namespace, "get", kind, *arguments, "-o", "json")
        return json.loads(done.stdout)["items"]

    def wait(self, what, holds, seconds=60):
        """Waits until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            for process in self.processes:
                assert process.poll() is None, f"{process.args[0]} ended: see {self.directory}"
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s; see {self.directory}"
            time.sleep(0.3)

    def add_node(self, name, cpu="16", memory="32Gi"):
        """A node that kwok plays."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"kubernetes.io/hostname": name},
                },
            }
        )
        room = {"cpu": cpu, "memory": memory, "pods": "110"}
        patch = {"status": {"allocatable": room, "capacity": room}}
        self.kubectl(
            "patch", "node", name, "--subresource", "status", "--type", "merge", "-p", json.dumps(patch)
        )

    def add_volume(self, name, size, modes):
        """A volume in the place of those that Minikube makes."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": size},
                    "accessModes": modes,
                    "hostPath": {"path": f"/nowhere/{name}"},
                    "persistentVolumeReclaimPolicy": "Retain",
                },
            }
        )

    def close(self):
        """Ends all, the API server after those that speak to it."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
