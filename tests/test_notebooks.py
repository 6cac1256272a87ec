"""Notebooks as jobs: every way to fail is named, and nothing that differs a second time gets by."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace

import nbformat
import psutil
import pytest
from conftest import default_signals, elsewhere, is_named, needs_linux
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from modeler import ModelerError
from modeler.runs.execute import execute_notebook, export_html
from modeler.runs.replay import reproduce_notebooks

KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def ignore_report(*_):
    pass


def write_notebook(path, *sources, tags=()):
    cells = [new_markdown_cell("# Made for a test"), new_code_cell("number = 1", metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(textwrap.dedent(source).strip(), metadata={"tags": list(tags)}) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    return path


@pytest.fixture
def execute(tmp_path):
    """Execute a notebook of the given cells in a run's folder."""

    def execute_cells(*sources, tags=(), timeout=60, writes=(), parameters=None, report=ignore_report):
        run = tmp_path / "run"
        run.mkdir()
        (run / "given").write_text("from the notebook before")
        notebook = write_notebook(tmp_path / "made.ipynb", *sources, tags=tags)
        return execute_notebook(notebook, run, parameters or {"number": 2}, list(writes), report, timeout)

    return execute_cells


def reproduce(execution):
    return reproduce_notebooks([execution], execution.path.parent, ignore_report, timeout=60)


@pytest.mark.medium
def test_parameters_and_files_of_an_execution(execute):
    cells = []
    execution = execute(
        "from pathlib import Path; _ = Path('a.txt').write_text('x' * number); print(number)",
        parameters={"number": 3},
        report=lambda *progress: cells.append(progress),
    )
    assert cells == [("made.ipynb", done, 3) for done in range(4)]
    assert sorted(execution.left) == ["a.txt", "given"]
    assert execution.given == {"given": b"from the notebook before"}
    executed = nbformat.read(execution.path, 4)
    assert [cell.execution_count for cell in executed.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert executed.cells[-1].outputs[0].text == "3\n"
    assert reproduce(execution) == [3]
    assert not (execution.path.parent / "reproduce").exists()


@pytest.mark.medium
def test_executed_notebook_names_no_path_of_this_machine(execute):
    execution = execute("print(number)")
    assert str(execution.path.parent.parent) not in execution.path.read_text()


@pytest.mark.medium
def test_failing_cell_is_named_with_its_last_lines_and_the_notebook_is_kept(execute, tmp_path):
    with pytest.raises(ModelerError) as error:
        execute("print('before')", "1 / 0", "print('after')")
    told = str(error.value)
    assert told.startswith("made.ipynb, cell [4] of 5, failed:")
    assert "ZeroDivisionError: division by zero" in told and "1 / 0" in told and "\x1b" not in told
    kept = nbformat.read(tmp_path / "run" / "made.ipynb", 4)
    assert any(output.get("ename") == "ZeroDivisionError" for cell in kept.cells for output in cell.get("outputs", []))


@pytest.mark.medium
def test_own_error_in_a_notebook_is_shown_as_its_sentence_alone(execute):
    with pytest.raises(ModelerError) as error:
        execute("from modeler.model import read_contract", "read_contract('out/contract.json')")
    assert "cell [4] of 4, failed: there is no out/contract.json; run eda.ipynb first" in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.medium
def test_cell_out_of_time_is_stopped_and_named(execute, tmp_path):
    with pytest.raises(
        ModelerError, match=r"made.ipynb, cell \[3\] of 3, ran longer than 1 s and was stopped; .*--cell-timeout"
    ):
        execute("import time; time.sleep(60)", timeout=1)
    assert (tmp_path / "run" / "made.ipynb").exists()


@pytest.mark.medium
def test_dead_kernel_is_named(execute):
    with pytest.raises(
        ModelerError, match=r"made.ipynb, cell \[3\] of 3, lost its kernel; out of memory is the usual reason"
    ):
        execute("import os; os._exit(1)")


@pytest.mark.medium
def test_file_that_a_notebook_must_write_is_missed(execute):
    with pytest.raises(ModelerError, match="made.ipynb ran to its end without writing model.onnx"):
        execute("print(1)", writes=["model.onnx"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import random; print(random.random())", r"cell \[3\] gave another output the second time"),
        ("print(hash('text'))", r"cell \[3\] gave another output the second time"),
        (
            "import numpy as np, matplotlib.pyplot as plt; _ = plt.plot(np.random.rand(9))",
            r"cell \[3\] gave another output the second time",
        ),
        ("import random; _ = open('a.json', 'w').write(str(random.random()))", "a.json differed the second time"),
        ("import os; _ = open(f'{os.getpid()}.txt', 'w')", "txt differed the second time"),
        ("import os; os.mkdir('d'); _ = open('d/a', 'w').write(str(os.getpid()))", "d/a differed the second time"),
        (
            "import os; _ = os.environ['PYTHONHASHSEED'] == '0' or open('late', 'w').close()",
            "late differed the second time",
        ),
        (
            "import os; _ = os.environ['PYTHONHASHSEED'] == '0' or open('given', 'w').close()",
            "given differed the second time",
        ),
    ],
)
def test_chance_is_refused_wherever_it_shows(execute, source, sentence):
    execution = execute(source)
    with pytest.raises(ModelerError, match=f"made.ipynb is not reproducible: .*{sentence}"):
        reproduce(execution)
    assert (execution.path.parent / "reproduce" / "made" / "made.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("tags", "marked"), [(["nbval-skip"], ""), ([], "# NBVAL_SKIP\n")])
def test_skipped_cell_is_refused(execute, tags, marked):
    with pytest.raises(ModelerError, match=r"made.ipynb is not reproducible: cell \[3\] was skipped"):
        reproduce(execute(f"{marked}print(1)", tags=tags))


@pytest.mark.slow
def test_cell_that_ignores_its_output_is_not_counted_as_compared(execute):
    assert reproduce(execute("import random; print(random.random())", "print(1)", tags=["nbval-ignore-output"])) == [2]


@pytest.mark.slow
def test_notebook_with_nothing_to_compare_is_refused(execute):
    execution = execute("print(1)")
    notebook = nbformat.read(execution.path, 4)
    for cell in notebook.cells:
        cell.metadata.tags = ["nbval-ignore-output"]
    nbformat.write(notebook, execution.path)
    with pytest.raises(
        ModelerError, match="made.ipynb is not proven: 0 of 3 cells were compared, there is nothing to compare"
    ):
        reproduce(execution)


@pytest.mark.slow
def test_hanging_second_execution_is_stopped(execute):
    source = "import os, time; time.sleep(60 * int(os.environ['PYTHONHASHSEED']))"
    execution = execute(source)
    with pytest.raises(ModelerError, match=r"cell \[3\] failed the second time"):
        reproduce_notebooks([execution], execution.path.parent, ignore_report, timeout=2)


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    (folder / "run").mkdir()
    cells = "_ = open('contract.json', 'w').write('{}')", "repeated = 0\nprint(repeated, 'of 456 rows')", "repeated"
    notebook = write_notebook(folder / "made.ipynb", *cells)
    return execute_notebook(notebook, folder / "run", {"number": 2}, ["contract.json"], ignore_report)


@pytest.fixture
def executed(executed_once, tmp_path):
    """An executed notebook that wrote a contract, free to be tampered with."""
    run = shutil.copytree(executed_once.path.parent, tmp_path / "run")
    return replace(executed_once, path=run / "made.ipynb")


def tamper(execution, change):
    notebook = nbformat.read(execution.path, 4)
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith("repeated = ")]
    change(cell)
    nbformat.write(notebook, execution.path)


def change_number(cell):
    cell.outputs[0].text = cell.outputs[0].text.replace("of 456", "of 457")


def strip_output(cell):
    cell.outputs = []


def strip_cell(cell):
    cell.outputs, cell.execution_count = [], None


def skip_cell(cell):
    cell.metadata.tags = ["nbval-skip"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_number, r"cell \[4\] gave another output"),
        (strip_output, r"cell \[4\] gave another output"),
        (strip_cell, r"cell \[4\] was never run, so there is nothing to compare"),
        (skip_cell, r"cell \[4\] was skipped"),
    ],
)
def test_tampered_notebook_is_refused(executed, change, sentence):
    tamper(executed, change)
    with pytest.raises(ModelerError, match=f"made.ipynb is not reproducible: {sentence}"):
        reproduce(executed)


@pytest.mark.slow
def test_untampered_notebook_is_proven_and_a_changed_contract_is_not(executed):
    notebook = nbformat.read(executed.path, 4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    assert reproduce(executed) == [cells]
    with pytest.raises(ModelerError, match="contract.json differed the second time, though every output was the same"):
        reproduce(replace(executed, left={"contract.json": "0" * 64}))


def test_html_page_loads_nothing_from_outside(run):
    (run / "train.html").unlink()
    export_html(run / "train.ipynb")
    page = (run / "train.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    for loading in ('src="http', "src='http", "url(http", '<link rel="stylesheet" href="http', "@import"):
        assert loading not in page


INTERRUPT = """
import signal, sys
from pathlib import Path
from modeler.runs.execute import execute_notebook
from modeler.runs.replay import reproduce_notebooks
say = lambda *progress: print(*progress, flush=True)
run = Path(sys.argv[1])
execution = execute_notebook(Path(sys.argv[2]), run, {"number": 2}, [], say)
reproduce_notebooks([execution], run, say)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "on_linux"), [(signal.SIGINT, True), (signal.SIGKILL, True), (signal.SIGKILL, False)])
@pytest.mark.parametrize("moment", ["made.ipynb 2 3", "made.ipynb again 2 3"])
def test_end_leaves_no_kernel(tmp_path, moment, sent, on_linux):
    """Sent while a cell sleeps, in the first execution and in the second; also without what only Linux has."""
    environment = os.environ | elsewhere(tmp_path, on_linux)
    run = tmp_path / "run"
    run.mkdir()
    slow = "first" if "again" not in moment else "second"
    source = f"import os, time; time.sleep({{'first': 60, 'second': 0}}['{slow}'] if os.environ['PYTHONHASHSEED'] == '0' else 60)"
    notebook = write_notebook(tmp_path / "made.ipynb", source)
    command = [sys.executable, "-c", INTERRUPT, str(run), str(notebook)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        preexec_fn=default_signals, env=environment,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith(moment):
            break
    time.sleep(1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any(is_named(child, "ipykernel") for child in family)
    process.send_signal(sent)
    assert process.wait(timeout=30) != 0
    gone, alive = psutil.wait_procs(family, timeout=15)
    assert not alive and len(gone) == len(family)


@pytest.mark.medium
def test_kernels_inherit_the_environment_but_not_the_hash_seed(execute, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    monkeypatch.setenv("FROM_OUTSIDE", "yes")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    names = "FROM_OUTSIDE PYTHONHASHSEED ORT_DISABLE_TELEMETRY BENTOML_DO_NOT_TRACK"
    execution = execute(f"import os; print(*[os.environ[name] for name in '{names}'.split()])")
    assert "yes 0 1 True" in execution.path.read_text()


@pytest.mark.slow
def test_kernel_is_this_python_whatever_is_installed_as_python3(execute, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["false"], "display_name": "not this one", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    execution = execute("import sys; print(sys.executable)")
    assert sys.executable in execution.path.read_text()
    assert reproduce(execution) == [3]


@pytest.mark.slow
def test_kernels_are_reached_by_socket_files_that_are_gone_afterwards(execute, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", folder := tempfile.mkdtemp())
    monkeypatch.setenv("TMPDIR", folder)
    reached = """
        import json, ipykernel
        connection = json.loads(ipykernel.get_connection_info())
        print(connection["transport"])
    """
    execution = execute(reached)
    (output,) = nbformat.read(execution.path, 4).cells[-1].outputs
    assert output.text == "ipc\n"
    assert reproduce(execution) == [3]
    assert os.listdir(folder) == []


@needs_linux("which ends a child at once with its parent")
@pytest.mark.slow
def test_kernel_that_has_not_begun_ends_with_a_killed_parent(tmp_path):
    """At any moment: a kernel looks for its parent only once it has started."""
    notebook = write_notebook(tmp_path / "made.ipynb", "import time; time.sleep(60)")
    command = [sys.executable, "-c", INTERRUPT, str(tmp_path), str(notebook)]
    for wait in (0.0, 0.05, 0.2, 0.5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while not (family := psutil.Process(process.pid).children(recursive=True)):
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(family, timeout=5)[1]
