"""Runs pods from their images: the command, the environment and the mounts of the rendered manifests, by the pod's user, on a
root file system that cannot be written. As root, who alone may mount.

What a cluster does otherwise: an address is one of 127.0.0.0/8, names are in /etc/hosts, and no limit is enforced.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

from manifests import ROOT, pod
from stage import Stage, filled

STORE = 'cd "$0" && . k8s/tests/images/store.sh && store "$@"'
# In namespaces of its own: mounts, then the pod's user, who can gain nothing.
ENTER = """
root=$1 user=$2 && shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
while [ "$1" != -- ]; do
    kind=${1%%:*} rest=${1#*:} && shift
    case $kind in
    tmpfs) mount -t tmpfs -o "size=${rest%%:*},mode=1777" tmpfs "$root${rest#*:}" ;;
    rw) mount --bind "${rest%%:*}" "$root${rest#*:}" ;;
    ro) mount --bind "${rest%%:*}" "$root${rest#*:}" && mount -o remount,bind,ro "$root${rest#*:}" ;;
    esac
done
shift
# The pod's own namespace is within one whose first process stays root's: with the tests ends that one, and all in it. A process
# that has become another user hears no more of its parent's end.
exec /usr/bin/unshare --pid --fork --mount-proc="$root/proc" \
    /usr/bin/setpriv --no-new-privs /usr/sbin/chroot --userspec="$user" --groups= "$root" "$@"
"""


def store(*arguments):
    """Runs buildah; what it says."""
    done = subprocess.run(
        ["bash", "-euc", STORE, str(ROOT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Image:
    """A container of an image, whose root file system is mounted."""

    def __init__(self, name):
        self.name = name
        self.container = store("from", "--pull-never", name)
        self.root = Path(store("mount", self.container))

    @property
    def config(self):
        """What the image says of how it is run."""
        return json.loads(store("inspect", "--type", "image", self.name))["OCIv1"]["config"]

    @property
    def variables(self):
        """The environment that it brings, as a runtime completes it."""
        user = self.config["User"].partition(":")[0]
        users = (line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines())
        (home,) = (line[5] for line in users if line[2] == user)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": home} | dict(one.split("=", 1) for one in self.config.get("Env", []))

    @property
    def size(self):
        """Bytes of its files, without the caches of apt, which the base that is stood in for does not keep."""
        done = subprocess.run(
            ["du", "-sxb", "--exclude=./var/cache/apt", "."],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout.split()[0])

    def close(self):
        store("umount", self.container)
        store("rm", self.container)


class Pods(Stage):
    """Running pods."""

    def __init__(self, directory, workloads, find, images):
        super().__init__(directory, workloads, find)
        self.images = images
        self.addresses |= {"detector-0": "127.0.6.1", "producer": "127.0.7.1"}
        self.hosts.write_text(
            self.hosts.read_text() + f"{self.addresses['kafka-broker-1']} kafka\n127.0.0.1 kafka-topics\n"
        )

    def volume(self, name, volume):
        """The directory in the place of a volume."""
        if "configMap" in volume:
            return self.directory / volume["configMap"]["name"].rpartition("-")[0]
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", f"{name}.volume")
        path = self.directory / "volumes" / claim
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, 10001, 10001)
        return path

    def mounts(self, name, container):
        """What is mounted, as ENTER takes it."""
        workload = self.workloads[self.workload(name)]
        volumes = {one["name"]: one for one in pod(workload)["spec"].get("volumes", [])}
        root = self.images[container["image"].partition(":")[0]].root
        yield "rw:/dev:/dev"
        yield f"ro:{self.hosts}:/etc/hosts"
        for place in ("dev", "proc", "etc"):
            (root / place).mkdir(exist_ok=True)
        (root / "etc/hosts").touch()
        for mount in container.get("volumeMounts", []):
            volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
            (root / path[1:]).mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                yield f"tmpfs:{volume['emptyDir']['sizeLimit'].removesuffix('i').lower()}:{path}"
            else:
                yield f"{'ro' if mount.get('readOnly') else 'rw'}:{self.volume(name, volume)}:{path}"

    def command(self, name, container, command=None, **changes):
        """The command that runs a pod's container; `changes` are of its environment."""
        image = self.images[container["image"].partition(":")[0]]
        spec = pod(self.workloads[self.workload(name)])["spec"]
        user = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
        own = self.environment(name, container) | changes
        environment = image.variables | {"HOSTNAME": name} | own
        words = command or [filled(one, own) for one in container["command"] + container.get("args", [])]
        namespaces = ["/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child"]
        enter = ["/bin/sh", "-euc", ENTER, "sh", image.root, user, *self.mounts(name, container), "--"]
        return [*namespaces, *enter, *words], environment

    def start_pod(self, name, **changes):
        """Starts a pod."""
        log = self.directory / f"{name}.log"
        log.touch()
        # As a runtime gives a container's output to its user.
        os.chown(log, 10001, 10001)
        self.start(name, *self.command(name, self.container(name), **changes))

    def run_once(self, name, container, **changes):
        """Runs a container that is to end; what it says."""
        command, environment = self.command(name, container, **changes)
        return run(command, environment)

    def first_process(self, name):
        """The number, here, of a pod's first process."""
        process = self.processes[name].pid
        for _ in ("of the outer namespace", "of the pod's"):
            (process,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return int(process)

    def execute(self, name, *words):
        """Runs a program in a running pod, as `kubectl exec` does."""
        image = self.images[self.container(name)["image"].partition(":")[0]]
        enter = ["/usr/bin/nsenter", "--mount", "--pid", "--target", self.first_process(name)]
        user = [
            "/usr/bin/setpriv",
            "--no-new-privs",
            "/usr/sbin/chroot",
            "--userspec=10001:10001",
            "--groups=",
        ]
        return run([*enter, *user, image.root, *words], image.variables | self.environment(name))

    def end(self, name):
        """Ends a pod as a kubelet does, within the time that it is given; its exit code."""
        os.kill(self.first_process(name), signal.SIGTERM)
        grace = pod(self.workloads[self.workload(name)])["spec"]["terminationGracePeriodSeconds"]
        return self.processes.pop(name).wait(timeout=grace)


def run(command, environment, timeout=500):
    """Runs a program with an environment of its own; what it says."""
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command[-3:]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout
