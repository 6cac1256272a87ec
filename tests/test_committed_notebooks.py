"""The committed notebooks: executed once in order, clean, readable, and reproducible from a fresh clone."""

import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT, UNDRAWN, Project

NOTEBOOKS = ["compare.ipynb", "eda.ipynb", "train.ipynb", "monitor.ipynb"]


def code_cells(name):
    return [cell for cell in nbformat.read(ROOT / "notebooks" / name, 4).cells if cell.cell_type == "code"]


@pytest.fixture
def clone(tmp_path):
    """As in a fresh clone: the notebooks with the settings of pytest and git, all of it known to git."""
    clone = Project(tmp_path).folder
    for name in (".gitignore", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    (clone / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", clone / "tests")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=clone, check=True)
    return clone


def list_changes(clone) -> list[str]:
    """What git sees in a clone that was not there before."""
    done = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("A  ")]


@pytest.mark.slow
def test_notebooks_run_again_in_order_with_every_output_the_same(clone):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "--nbval", "notebooks"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    cells = sum(len(code_cells(name)) for name in NOTEBOOKS)
    assert f"{cells} passed" in done.stdout, done.stdout
    written = {path.name for path in (clone / "notebooks" / "out").iterdir()}
    assert written == {
        "compare.json", "contract.json", "drift.json", "importance.json", "metrics.json", "model.onnx", "model.skops"
    }  # fmt: skip
    assert list_changes(clone) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", [
    "papermill {} out.ipynb", "jupyter execute {}", "jupyter nbconvert --to notebook --execute {}",
    "jupyter nbconvert --to html --execute {}",
])  # fmt: skip
def test_notebook_is_run_by_the_usual_tools_from_the_top_level_and_git_sees_nothing(clone, command):
    words = command.format("notebooks/eda.ipynb").split()
    environment = os.environ | ({} if "html" in command else UNDRAWN)
    done = subprocess.run([sys.executable, "-m", *words], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = clone if command.startswith("papermill") else clone / "notebooks"
    assert (folder / "out" / "contract.json").exists()
    assert list_changes(clone) == []


@pytest.mark.slow
def test_train_without_a_contract_says_to_run_eda_first(tmp_path):
    shutil.copy(ROOT / "notebooks" / "train.ipynb", tmp_path)
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", "train.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "there is no out/contract.json; run eda.ipynb first" in done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_committed_executed_once_in_order(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) >= 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_tells_a_story_in_short_cells(name):
    cells = code_cells(name)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in cells)
    assert statistics.median(len(cell.source.splitlines()) for cell in cells) <= 6
    headings = [cell for cell in nbformat.read(ROOT / "notebooks" / name, 4).cells if cell.source.startswith("## ")]
    assert len(headings) >= 7


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_holds_no_path_and_no_trace_of_a_machine(name):
    text = (ROOT / "notebooks" / name).read_text()
    for trace in (str(ROOT), os.path.expanduser("~/"), "/tmp/", "site-packages", "papermill"):
        assert trace not in text.replace("python pipeline.py", ""), trace
