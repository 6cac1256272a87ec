"""The image, built and run in a real Docker engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata

import pytest
import yaml
from conftest import ROOT, engine_answers, read_page
from test_bento import invert_answers

from modeler.ship.run import HARDENED


def docker(*words, check=True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def find_compose() -> list[str]:
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True).returncode == 0:
            return words
    return []


COMPOSE = find_compose()
needs_engine = pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers; start one to test the image")


@pytest.fixture
def image(shipped):
    """The image by plain `bentoml build` and `bentoml containerize`, and the project whose store has its model."""
    return shipped[0], shipped[1]["plain"]


@pytest.fixture
def alter(image, tmp_path):
    """Make an image that differs in one file from the one built."""
    made = []

    def alter_file(path: str, change) -> str:
        container = docker("create", image[1])
        docker("cp", f"{container}:/home/bentoml/bento/{path}", str(tmp_path / "file"))
        (tmp_path / "file").write_bytes(change((tmp_path / "file").read_bytes()))
        docker("cp", str(tmp_path / "file"), f"{container}:/home/bentoml/bento/{path}")
        made.append(docker("commit", container, f"{image[1]}-{os.getpid()}"))
        docker("rm", container)
        return f"{image[1]}-{os.getpid()}"

    yield alter_file
    for altered in made:
        docker("rmi", "--force", altered)


def look_inside(image, script) -> str:
    return docker("run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "sh", image, "-c", script)


@needs_engine
def test_image_answers_the_golden_rows_hardened(image):
    project, tag = image
    done = project.retrain("verify", "--image", tag)
    assert done.returncode == 0, done.stderr
    assert f" in the image {tag} answers its 32 golden rows as the estimator did, " in done.stdout


@needs_engine
def test_image_that_answers_otherwise_is_found_row_by_row(image, alter):
    project, _ = image
    altered = alter("src/service.py", invert_answers)
    done = project.retrain("verify", "--image", altered)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    first, *differences = done.stdout.splitlines()
    assert first.endswith(f" in the image {altered} differs from its golden rows:")
    golden = json.loads((project.store / "models" / first.split()[0].replace(":", "/") / "golden.json").read_text())
    label = golden["answers"][0]["label"]
    other = {"benign": "malignant", "malignant": "benign"}[label]
    assert re.match(rf"  records, one row a request, row 0: {other} \(.*\) instead of {label} \(.*\)$", differences[0])


@needs_engine
def test_image_of_a_changed_model_says_so_and_proves_nothing(image, alter):
    project, tag = image
    version = project.stored[0].partition(":")[2]
    altered = alter(f"models/breast_cancer/{version}/contract.json", lambda content: content + b" ")
    done = project.retrain("verify", "--image", altered)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"breast_cancer:{version} was changed after it was stored" in done.stderr


@needs_engine
def test_image_of_a_model_that_the_store_lacks_is_not_proven(image, tmp_path):
    project, tag = image
    done = project.retrain("verify", "--image", tag, env=project.environment | {"BENTOML_HOME": str(tmp_path)})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"there is no model {project.stored[0]} in the store {tmp_path}" in done.stderr


@needs_engine
def test_image_holds_nothing_that_it_does_not_need(image):
    _, tag = image
    tools = look_inside(tag, "command -v gcc cc g++ git uv jupyter papermill; true")
    assert tools == ""
    packages = look_inside(tag, "ls /app/.venv/lib/python3.*/site-packages").lower().split()
    assert "onnxruntime" in packages
    unwanted = {"sklearn", "pandas", "jupyterlab", "papermill", "nbval", "skops", "pytest", "scipy", "matplotlib"}
    assert not unwanted & set(packages)
    found = look_inside(
        tag,
        "find / -xdev \\( -name '*.pkl' -o -name '.env' -o -name 'notebooks' -o -path '*/.cache/pip' \\) 2>/dev/null; true",
    )
    assert found == ""
    assert docker("image", "inspect", tag, "--format", "{{.Config.User}}") == "bentoml"
    environment = json.loads(docker("image", "inspect", tag, "--format", "{{json .Config.Env}}"))
    assert {"BENTOML_DO_NOT_TRACK=True", "ORT_DISABLE_TELEMETRY=1"} <= set(environment)


@needs_engine
def test_bill_of_materials_lists_every_package_in_the_image(image, tmp_path):
    """By the command of the workflow, with the version of the tool that is locked."""
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "model.yml").read_text())["jobs"]["retrain"]["steps"]
    (script,) = (step["run"] for step in steps if "cyclonedx" in step.get("run", ""))
    (tmp_path / "kept").mkdir()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    command, ours = script[script.index("docker run ") :], f"{sys.executable} -m cyclonedx_py"
    command = command.replace(f"pipx run --spec cyclonedx-bom=={metadata.version('cyclonedx-bom')} cyclonedx-py", ours)
    assert ours in command
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, env=os.environ | {"image": image[1]}, check=True)
    bill = json.loads((tmp_path / "kept" / "sbom.cdx.json").read_text())
    listed = {(each["name"].lower(), each["version"]) for each in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])
    found = look_inside(image[1], "ls -d /app/.venv/lib/python3.*/site-packages/*.dist-info").lower()
    held = set(re.findall(r"/([^/-]+)-([^/]+)\.dist-info", found))
    assert {(name.replace("-", "_").replace(".", "_"), version) for name, version in listed} == held and len(held) > 50


@needs_engine
def test_image_is_ready_without_a_network_logs_to_a_volume_and_stops_at_sigterm(image, tmp_path):
    project, tag = image
    tmp_path.chmod(0o777)  # for its user
    volume = ["--volume", f"{tmp_path}:/log"]
    container = docker("run", "--detach", "--network", "none", *volume, *HARDENED, tag, "serve", "--arg", "log=/log")
    ask = (
        "import sys, time, urllib.request\n"
        "for _ in range(300):\n"
        "    try: print(urllib.request.urlopen('http://127.0.0.1:3000/readyz').status); break\n"
        "    except OSError: time.sleep(0.1)\n"
        "json = {'content-type': 'application/json'}\n"
        "urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:3000/predict', sys.argv[1].encode(), json))\n"
    )
    (golden,) = (project.store / "models" / "breast_cancer").glob("*/golden.json")
    row = json.loads(golden.read_text())["rows"][0]
    try:
        assert docker("exec", container, "/app/.venv/bin/python", "-c", ask, json.dumps(row)) == "200"
        docker("stop", "--time", "30", container)
        assert docker("inspect", container, "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
        assert "elemetry" not in docker("logs", container)
        reading = [*volume, "--user", "12345", "--entrypoint", "sh", tag, "-c", "cat /log/breast_cancer/*.jsonl"]
        (line,) = docker("run", "--rm", *reading).splitlines()
        assert json.loads(line)["features"].items() <= row.items()
    finally:
        docker("rm", "--force", container)


@needs_engine
@pytest.mark.skipif(not COMPOSE, reason="neither `docker compose` nor docker-compose is here; install one")
def test_compose_runs_the_image_hardened_and_sees_its_health(image, tmp_path):
    _, tag = image
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    settings = {"cwd": tmp_path, "env": os.environ | {"MODEL_IMAGE": tag, "PORT": "0"}, "check": True}
    subprocess.run([*COMPOSE, "up", "--detach"], **settings)
    try:
        (container,) = subprocess.run([*COMPOSE, "ps", "--quiet"], stdout=subprocess.PIPE, text=True, **settings).stdout.split()
        deadline = time.monotonic() + 60
        while (health := docker("inspect", container, "--format", "{{.State.Health.Status}}")) == "starting":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert health == "healthy"
        found = json.loads(docker("inspect", container))[0]
        assert (found["HostConfig"]["ReadonlyRootfs"], found["Config"]["User"]) == (True, "12345")
        assert docker("exec", container, "sh", "-c", "touch /home/bentoml/x 2>&1 || true").endswith(
            "Read-only file system"
        )
    finally:
        subprocess.run([*COMPOSE, "down"], **settings)


def test_compose_docs_and_verify_harden_alike():
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["predict"]
    compose = ["--user", service["user"], *["--read-only"] * service["read_only"], "--tmpfs", service["tmpfs"]]
    compose += ["--cap-drop", *service["cap_drop"], "--security-opt", *service["security_opt"]]
    assert [*compose, "--memory", service["mem_limit"], "--pids-limit", str(service["pids_limit"])] == HARDENED
    (command,) = re.findall(r"docker run -p 3000:3000 (--.*?) breast_cancer", read_page("docs/ship.md").replace("\\\n", ""))
    assert command.split() == HARDENED


@needs_engine
def test_pipeline_builds_the_image_and_proves_it(shipped):
    result = shipped[1]["result"]
    assert result["image"] == result["bento"] and result["verdict"] == "unchanged"
    labels = json.loads(docker("image", "inspect", result["image"], "--format", "{{json .Config.Labels}}"))
    assert labels["model"] == result["model"] and set(labels) == {"model", "run", "data", "commit"}


@pytest.mark.slow
@needs_engine
def test_image_that_is_not_there_is_named(retrained):
    done = retrained[0].retrain("verify", "--image", "nothing_here:1")
    assert done.returncode == 1 and "the image nothing_here:1 does not run: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["verify", "--image", "breast_cancer:1"], ["--containerize"]])
def test_without_an_engine_one_sentence_says_what_to_install(project, words):
    environment = project.environment | {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = project.retrain(*words, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no Docker engine answers; install Docker Engine, start it, and try again" in done.stderr
    assert project.runs == []  # said before any kernel started
