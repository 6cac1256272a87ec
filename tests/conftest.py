"""Real projects, runs and stores in temporary folders."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["-p", "estimator=logistic_regression"]
SECRET_NAME, SECRET = "DATABASE_PASSWORD", "correct-horse-battery-staple"


class Project:
    """A copy of the project's own files with a model store beside it, driven like a user drives it."""

    def __init__(self, parent: Path):
        self.folder, self.store = parent / "project", parent / "bentoml"
        self.secrets = {}
        if self.folder.exists():
            return
        self.folder.mkdir(parents=True)
        for name in ("pipeline.py", "service.py", "notebooks"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.folder / name)
        shutil.rmtree(self.folder / "notebooks" / "out", ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"BENTOML_HOME": str(self.store), "BENTOML_DO_NOT_TRACK": "True"} | self.secrets

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("*"))

    @property
    def stored(self) -> list[str]:
        """What the store holds, as BentoML itself lists it."""
        done = self.command("-m", "bentoml", "models", "list", "-o", "json")
        assert done.returncode == 0, done.stderr
        return sorted(model["tag"] for model in json.loads(done.stdout))

    def command(self, *words, **settings) -> subprocess.CompletedProcess:
        settings = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True} | settings
        return subprocess.run([sys.executable, *map(str, words)], **settings)

    def retrain(self, *options, **settings) -> subprocess.CompletedProcess:
        return self.command("pipeline.py", *options, **settings)

    def edit_cell(self, notebook: str, holding: str, new_source=None, tags=None) -> None:
        """Change the one cell of a notebook that holds a text."""
        path = self.folder / "notebooks" / notebook
        content = nbformat.read(path, 4)
        (cell,) = [cell for cell in content.cells if holding in cell.source and cell.cell_type == "code"]
        cell.source = cell.source if new_source is None else new_source(cell.source)
        cell.metadata.tags = cell.metadata.get("tags", []) + (tags or [])
        nbformat.write(content, path)


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def retrained(tmp_path_factory, worker_id) -> tuple[Project, dict]:
    """A project whose pipeline ran once with the true defaults, shared by all workers; tests copy what they change."""
    shared = tmp_path_factory.getbasetemp().parent if worker_id != "master" else tmp_path_factory.getbasetemp()
    folder, answer = shared / "retrained", shared / "retrained.json"
    with open(shared / "retrained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            project = Project(folder)
            project.secrets = {SECRET_NAME: SECRET}
            done = project.retrain("--json")
            assert done.returncode == 0, done.stderr
            answer.write_text(done.stdout)
    return Project(folder), json.loads(answer.read_text())


@pytest.fixture
def run(retrained, tmp_path) -> Path:
    """A copy of the default run's folder, free to be damaged."""
    return Path(shutil.copytree(retrained[1]["run"], tmp_path / "run"))
