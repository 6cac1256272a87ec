"""The bento: what is in it, what it says of itself, and that it answers with its own model."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, Serving, make_project, needs_linux
from test_rooms import SERVED

from modeler.ship.run import find_free_port

SOURCES = {"service.py", "bentofile.yaml"}


@pytest.fixture
def built(shipped, tmp_path) -> tuple[Project, str]:
    """A copy of the shipped project, free to be damaged, and its bento by `bentoml build`."""
    project = Project(Path(shutil.copytree(shipped[0].folder.parent, tmp_path / "built")))
    return project, shipped[1]["plain"]


def invert_answers(service: bytes) -> bytes:
    """A service.py that swaps the two probabilities once the golden rows were answered."""
    twisted = (
        b"        self.predictor.graph.run = lambda inputs, run=self.predictor.graph.run: run(inputs)[:, ::-1]\n"
    )
    return service.replace(b"        gc.collect()\n", twisted + b"        gc.collect()\n")


def folder_of(project, bento):
    return project.store / "bentos" / bento.replace(":", "/")


def sources_of(project, bento) -> dict[str, bytes]:
    folder = folder_of(project, bento) / "src"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bento_holds_the_service_and_its_package_alone(built):
    package = ROOT / "modeler"
    served = [*package.glob("*.py"), *(path for room in SERVED for path in package.glob(f"{room}/*"))]
    modules = {path.relative_to(ROOT).as_posix() for path in served if path.is_file()}
    assert set(sources_of(*built)) == SOURCES | modules


def test_bento_pins_the_requirements_of_the_service_and_no_others(built):
    requirements = (folder_of(*built) / "env" / "python" / "requirements.txt").read_text()
    names = {line.partition("==")[0].lower() for line in requirements.splitlines() if "==" in line}
    assert {"bentoml", "numpy", "onnxruntime", "pydantic", "uvloop"} <= names
    assert not names & {"scikit-learn", "pandas", "jupyterlab", "papermill", "nbval", "skops", "pytest"}


def test_bento_says_which_model_run_data_and_commit_it_holds(built, retrained):
    description = yaml.safe_load((folder_of(*built) / "bento.yaml").read_text())
    provenance = json.loads((retrained[0].runs[0] / "provenance.json").read_text())
    git = provenance["git"]
    commit = "none" if git is None else git["commit"] + ("-dirty" if git["dirty"] else "")
    assert description["labels"] == {
        "model": retrained[1]["model"],
        "run": retrained[0].runs[0].name,
        "data": provenance["data"]["sha256"],
        "commit": commit,
    }
    readme = (folder_of(*built) / "README.md").read_text()
    assert all(f"- {name}: {value}\n" in readme for name, value in description["labels"].items())
    (service,) = description["services"]
    assert [model["tag"] for model in service["models"]] == [retrained[1]["model"]]


def hash_tree(folder: Path) -> dict[str, str]:
    """Every file and folder below one, by the hash of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def test_no_command_changes_a_stored_bento_or_model(built, retrained):
    """Without the variable that our machines set and a user's do not."""
    project, bento = built
    plain = {name: value for name, value in project.environment.items() if not name.startswith("PYTHON")}
    plain |= {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    models, model = project.store / "models" / "breast_cancer", retrained[1]["model"]
    before = hash_tree(folder_of(project, bento)), hash_tree(models)
    for words in (["verify", "--bento", bento], ["verify", model], ["history"]):
        done = project.retrain(*words, env=plain)
        assert done.returncode == 0, done.stderr
    with Serving(project, project.folder.parent / "log") as serving:
        assert project.retrain("verify", "--url", serving.url, env=plain).returncode == 0
    assert (hash_tree(folder_of(project, bento)), hash_tree(models)) == before


def test_bento_answers_with_its_own_version_while_the_store_holds_a_newer_one(built, retrained):
    project, bento = built
    models = project.store / "models" / "breast_cancer"
    newer = shutil.copytree(models / retrained[1]["model"].partition(":")[2], models / "0123456789abcdef")
    (newer / "model.yaml").write_text(
        (newer / "model.yaml").read_text().replace(retrained[1]["model"][-16:], newer.name)
    )
    (models / "latest").write_text(newer.name)
    try:
        done = project.retrain("verify", "--bento", bento)
    finally:
        (models / "latest").write_text(retrained[1]["model"].partition(":")[2])
        shutil.rmtree(newer)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{retrained[1]['model']} in the bento {bento} answers its 32 golden rows")


def test_bento_that_answers_otherwise_is_found_row_by_row(built):
    project, bento = built
    source = folder_of(project, bento) / "src" / "service.py"
    honest = source.read_bytes()
    source.write_bytes(invert_answers(honest))
    try:
        done = project.retrain("verify", "--bento", bento)
    finally:
        source.write_bytes(honest)
    assert done.returncode == 1 and f"in the bento {bento} differs from its golden rows:" in done.stdout
    assert "records, one row a request, row 0: benign (" in done.stdout


@needs_linux("which tells the ports that it gives out itself")
def test_bento_is_served_where_no_other_process_is_sent_by_the_system():
    given_out_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {find_free_port() for _ in range(200)}
    assert len(ports) > 150 and max(ports) < given_out_from


def test_port_that_another_protocol_answers_is_told_as_a_bento_that_does_not_start(built):
    project, bento = built
    with socket.create_server(("127.0.0.1", 0)) as kernel:
        threading.Thread(target=greet_one, args=[kernel], daemon=True).start()
        taken = f"modeler.ship.run.find_free_port = lambda: {kernel.getsockname()[1]}"
        verify = f"sys.exit(pipeline.main(['verify', '--bento', '{bento}']))"
        done = project.command("-c", f"import sys, pipeline, modeler.ship.run; {taken}; {verify}")
    assert done.returncode == 1 and done.stderr.startswith(f"pipeline.py: the bento {bento} does not start: ")
    assert "ddress already in use" in done.stderr and len(done.stderr.splitlines()) == 1


def greet_one(kernel: socket.socket) -> None:
    """Answer as ZeroMQ does, which a Jupyter kernel speaks."""
    connection, _ = kernel.accept()
    with connection:
        connection.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\n")


def test_pipeline_builds_the_same_bento_from_any_folder_and_proves_it(shipped):
    project, plain, result = shipped[0], shipped[1]["plain"], shipped[1]["result"]
    assert result["verdict"] == "unchanged" and result["bento"].startswith("breast_cancer:")
    assert sources_of(project, result["bento"]) == sources_of(project, plain)
    for part in ("env", "README.md", "apis"):
        ours, theirs = (folder_of(project, bento) / part for bento in (result["bento"], plain))
        assert list_content(ours) == list_content(theirs)


def list_content(path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return {str(part.relative_to(path.parent)): part.read_bytes() for part in files}


@pytest.mark.slow
def test_workflow_exports_a_champion_that_can_be_imported(retrained, tmp_path):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "model.yml").read_text())
    steps = "\n".join(step.get("run", "") for step in workflow["jobs"]["retrain"]["steps"])
    (export,) = re.findall("bentoml models export.*", steps)
    (tmp_path / "kept").mkdir()
    words = {"cwd": tmp_path, "check": True, "env": retrained[0].environment}
    subprocess.run(["bash", "-c", f'"{sys.executable}" -m {export}'], **words)
    (exported,) = (tmp_path / "kept").iterdir()
    elsewhere = words | {"env": words["env"] | {"BENTOML_HOME": str(tmp_path / "store")}}
    subprocess.run([sys.executable, "-m", "bentoml", "models", "import", exported], **elsewhere)
    done = retrained[0].retrain("verify", retrained[1]["model"], env=elsewhere["env"])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-m", "bentoml", "build", "--output", "tag"], "there is no model breast_cancer in the store"),
        (["pipeline.py", "verify", "--bento", "orders:latest"], "there is no bento orders:latest in the store"),
    ],
)
def test_nothing_to_build_or_to_verify_is_one_sentence(project, words, sentence):
    for name in ("bentofile.yaml", "requirements-serve.txt"):
        shutil.copy(ROOT / name, project.folder)
    done = project.command(*words)
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_folder_that_bentoml_refuses_is_named(retrained, tmp_path):
    hidden = make_project(retrained, tmp_path / ".hidden")
    build = "import sys; from pathlib import Path; from modeler.ship.build import build_bento; build_bento(Path.cwd(), 'breast_cancer')"
    done = hidden.command("-c", build, env=hidden.environment | {"PYTHONPATH": os.fspath(hidden.folder)})
    assert done.returncode == 1 and "ModelerError: the bento cannot be built: " in done.stderr
