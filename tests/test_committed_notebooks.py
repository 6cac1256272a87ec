"""The committed notebooks: executed once in order, clean, readable, and reproducible from a fresh clone."""

import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

NOTEBOOKS = ["eda.ipynb", "train.ipynb"]


def code_cells(name):
    return [cell for cell in nbformat.read(ROOT / "notebooks" / name, 4).cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_notebooks_run_again_in_order_with_every_output_the_same(tmp_path):
    """As in a fresh clone: nothing but the two notebooks, eda before train."""
    for name in NOTEBOOKS:
        shutil.copy(ROOT / "notebooks" / name, tmp_path)
    command = [
        sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", *NOTEBOOKS, "-q", "--rootdir", ".",
        "-c", os.devnull, "-p", "no:cacheprovider", "-p", "no:xdist",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    cells = sum(len(code_cells(name)) for name in NOTEBOOKS)
    assert f"{cells} passed" in done.stdout, done.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"contract.json", "metrics.json", "model.onnx", "model.skops"}


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
