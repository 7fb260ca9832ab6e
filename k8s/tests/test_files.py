"""Scripts and Dockerfiles: linted, with LF endings, executable."""

import os

from manifests import ROOT, run


def tracked(*patterns):
    """Files that git knows, or would take."""
    done = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns)
    assert done.returncode == 0, done.stderr
    return [ROOT / line for line in done.stdout.splitlines()]


def is_script(path):
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def test_shell_scripts_are_linted():
    scripts = [path for path in tracked("k8s") if is_script(path)]
    assert len(scripts) >= 6
    # TOPIC comes from the environment, as the upper case says.
    done = run(ROOT / "target/k8s-venv/bin/shellcheck", "--external-sources", "--exclude=SC2153", *scripts)
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_a_fault(tmp_path):
    script = tmp_path / "fault.sh"
    script.write_text("#!/bin/sh\nrm $1/*\n")
    assert run(ROOT / "target/k8s-venv/bin/shellcheck", script).returncode == 1


def test_dockerfiles_are_linted():
    # Versions of Debian's packages are those of its release, which is pinned: older ones vanish from its mirrors.
    ignored = ["--ignore=DL3008"]
    done = run(ROOT / "target/k8s-venv/bin/hadolint", *ignored, *tracked("k8s/images/Dockerfile"))
    assert done.returncode == 0, done.stdout


def test_base_images_are_pinned():
    stages = set()
    for line in (ROOT / "k8s/images/Dockerfile").read_text().splitlines():
        if line.startswith("FROM "):
            _, image, _, stage = line.split()
            assert image in stages or image == "scratch" or image.partition(":")[2][:1].isdigit(), line
            stages.add(stage)
    assert {"ids", "ids-kafka", "ids-spark"} <= stages


def test_files_end_their_lines_with_lf():
    for path in [*tracked("k8s"), ROOT / "Makefile"]:
        assert b"\r" not in path.read_bytes(), path
    attributes = run(
        "git",
        "check-attr",
        "eol",
        "Makefile",
        "k8s/base/kafka/node.sh",
        "k8s/jobs/train-model",
        "testdata/golden.sh",
    )
    assert attributes.stdout.count("eol: lf") == 4, attributes.stdout


def test_scripts_are_executable():
    for path in tracked("k8s"):
        if is_script(path):
            assert os.access(path, os.X_OK), path
