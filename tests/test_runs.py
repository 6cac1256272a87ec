"""The list of runs: every folder by what its files tell, whichever way the run ended and however old it is."""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import nbformat
import pytest

from modeler import ModelerError
from modeler.commands.runs import format_runs
from modeler.model.contract import read_json, write_json
from modeler.runs.ending import find_ending, note_failure
from modeler.runs.listing import list_runs

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
DEFAULTS = {"data": "breast_cancer", "seed": 0, "estimator": "auto"}


@pytest.fixture
def runs(tmp_path) -> Path:
    (folder := tmp_path / "project" / "runs").mkdir(parents=True)
    return folder


def edit(path: Path, change) -> None:
    content = read_json(path)
    change(content)
    write_json(path, content)


def write_notebook(path: Path, ended: list[bool], error: dict | None = None, told: dict | None = None) -> None:
    """A notebook as papermill leaves it: some of its cells ended, the last one perhaps with an error."""
    cells = [nbformat.v4.new_code_cell(f"print({number})") for number in range(len(ended))]
    for cell, has_ended in zip(cells, ended):
        cell.metadata["papermill"] = {"status": "completed", "end_time": "2026-01-01T00:00:01+00:00" if has_ended else None}
    cells[-1].outputs = [nbformat.v4.new_output("error", **error)] if error else []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Look"), *cells])
    notebook.metadata["papermill"] = {"parameters": told or {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


DONE, FAULT = [True] * 3, {"ename": "KeyError", "evalue": "'x'\nmore", "traceback": []}


def test_default_run_is_listed_with_all_that_is_known(retrained):
    project, result = retrained
    (run,) = list_runs(project.folder / "runs", DEFAULTS | {"threshold": "0.5"})
    verdict, provenance = (read_json(Path(result["run"]) / f"{name}.json") for name in ("verdict", "provenance"))
    low, high = verdict["intervals"]["roc_auc"]
    when = datetime.strptime(Path(result["run"]).name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    assert (run["run"], run["when"]) == (result["run"], when.isoformat())
    assert (run["name"], run["model"], run["verdict"]) == ("breast_cancer", result["model"], "promoted")
    score = {"name": "roc_auc", "value": pytest.approx(result["metrics"]["roc_auc"]), "low": low, "high": high, "spread": None}
    assert run["score"] == score and run["data"] == provenance["data"]["sha256"][:12]
    assert 1 < run["seconds"] <= result["seconds"] and run["error"] is None


def test_parameters_are_those_that_are_not_what_the_notebooks_set_today(typed, runs, retrained):
    shutil.copytree(retrained[1]["run"], runs / "20260101-000000-1")
    assert json.loads(typed("runs", "--json").stdout)[0]["parameters"] == {}
    edit(runs / "20260101-000000-1" / "provenance.json", lambda then: then["parameters"]["train.ipynb"].update(seed=7, search=True))
    assert json.loads(typed("runs", "--json").stdout)[0]["parameters"] == {"seed": 7, "search": True}
    assert "run 20260101-000000-1, data " in (table := typed("runs").stdout) and " s\n" + " " * 21 + "seed=7, search=true" in table


def test_newest_is_first_and_what_is_no_run_is_passed_over(runs):
    for name in ("20260101-000000-9", "20260102-000000-1", "20251231-235959-5", "20269999-000000-1", "mine", ".samples"):
        write_notebook(runs / name / "eda.ipynb", DONE)
    for name in ("20260103-000000-1", "20260104-000000-1"):  # of a kind of its own
        (runs / name).mkdir()
    write_json(runs / "20260104-000000-1" / "drift.json", {})
    (runs / "20260105-000000-1").write_text("a file")
    assert [Path(run["run"]).name for run in list_runs(runs, {})] == ["20260102-000000-1", "20260101-000000-9", "20251231-235959-5"]


@pytest.mark.parametrize(
    ("make", "ending"),
    [
        (lambda run: None, ("interrupted", "before eda.ipynb")),
        (lambda run: write_notebook(run / "eda.ipynb", [True, False, False]), ("interrupted", "eda.ipynb, cell [2] of 3,")),
        (lambda run: write_notebook(run / "eda.ipynb", DONE), ("interrupted", "after eda.ipynb")),
        (lambda run: write_notebook(run / "train.ipynb", [True, True], FAULT), ("failed", "train.ipynb, cell [2] of 2, failed: KeyError: 'x'")),
        (lambda run: write_notebook(run / "train.ipynb", DONE), ("interrupted", "after train.ipynb")),
        (lambda run: write_notebook(run / "reproduce" / "train" / "train.ipynb", DONE), ("interrupted", "after train.ipynb, in the second execution")),
        (lambda run: (run / "eda.ipynb").write_text('{"cells"'), ("interrupted", "eda.ipynb, which cannot be read")),
        (lambda run: (run / "eda.ipynb").write_text("[]"), ("interrupted", "eda.ipynb, which cannot be read")),
    ],
)  # fmt: skip
def test_killed_run_is_told_by_its_notebooks(runs, make, ending):
    """In a folder where eda.ipynb came to its end, unless the case is about that."""
    run = runs / "20260101-000000-1"
    if "train" in ending[1]:
        write_notebook(run / "eda.ipynb", DONE)
    if ending[1].startswith("after train"):
        write_notebook(run / "train.ipynb", DONE)
    run.mkdir(parents=True, exist_ok=True)
    make(run)
    assert find_ending(run) == ending


def test_failure_is_noted_in_one_line_but_no_verdict_is_contradicted(tmp_path):
    sentence = "train.ipynb, cell [7] of 9, failed: \n    x = 1 / 0\n    ZeroDivisionError: division by zero\nThe executed notebook is /x"
    for written, told in {
        sentence: "train.ipynb, cell [7] of 9, failed: ZeroDivisionError: division by zero",
        "eda.ipynb is not reproducible: cell [4] gave another output\n  1\nTake": "eda.ipynb is not reproducible: cell [4] gave another output",
    }.items():
        with pytest.raises(ModelerError), note_failure(tmp_path):
            raise ModelerError(written)
        assert find_ending(tmp_path) == ("failed", told)
    (tmp_path / "failed.json").unlink()
    write_json(tmp_path / "verdict.json", {})
    with pytest.raises(OSError), note_failure(tmp_path):
        raise OSError("disk full")
    assert not (tmp_path / "failed.json").exists()


def test_run_of_a_living_process_is_running_and_of_a_later_one_is_not(runs):
    now = datetime.now(timezone.utc)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        for pid, began, verdict in [(os.getpid(), now, "running"), (process.pid, BEGAN, "interrupted"), (2**31, now, "interrupted")]:
            run = runs / f"{began:%Y%m%d-%H%M%S}-{pid}"
            write_notebook(run / "eda.ipynb", [True, False])
            assert find_ending(run) == (verdict, "eda.ipynb, cell [2] of 2,")
        process.communicate(b"\n")
    sweep = runs / f"{now:%Y%m%d-%H%M%S}-1"
    write_json(sweep / "sweep.json", {})
    write_notebook(sweep / str(os.getpid()) / "eda.ipynb", [False])  # the number of a combination, and of no process
    (run,) = [run for run in list_runs(runs, {}) if Path(run["run"]).parent == sweep]
    assert run["verdict"] == "interrupted"


def test_run_of_an_older_version_is_listed_with_what_is_known(runs, retrained):
    for number in range(4):
        shutil.copytree(retrained[1]["run"], runs / f"20260101-00000{number}-1")
    whole, bare, no_provenance, damaged = sorted(runs.iterdir())
    edit(whole / "provenance.json", lambda then: [then.pop(name) for name in ("name", "file_sha256", "floors", "eda_from")])
    edit(whole / "verdict.json", lambda then: [then.pop(name) for name in ("candidate", "seconds", "intervals")])
    for name in ("verdict.json", "provenance.json"):
        (bare / name).unlink()
    (no_provenance / "provenance.json").unlink()
    (no_provenance / "metrics.json").write_text("[]")
    for name in ("verdict", "provenance", "metrics"):
        (damaged / f"{name}.json").write_text('["verdict"]')
    listed = {Path(run["run"]): run for run in list_runs(runs, DEFAULTS)}
    told = [[listed[run][name] for name in ("name", "model", "verdict")] for run in sorted(listed)]
    tag = retrained[1]["model"]
    assert told == [
        ["breast_cancer", None, "promoted"],
        [None, None, "interrupted"],
        ["breast_cancer", tag, "promoted"],
        [None, None, "interrupted"],
    ]
    assert listed[whole]["score"]["value"] and listed[whole]["score"]["low"] is None and listed[whole]["seconds"] is None
    assert listed[no_provenance]["score"] is listed[bare]["score"] is None  # nobody held what train.ipynb wrote against the graph
    assert listed[bare]["error"] == "after train.ipynb" and "threshold" in listed[bare]["parameters"]
    assert format_runs(list(listed.values())).count("2026-01-01 00:00:0") == 4


def test_runs_of_a_sweep_are_listed_and_its_hold_out_is_not_shown_for_those_that_were_not_judged(runs, retrained):
    sweep = runs / "20260101-000000-1"
    for name in ("01", "02"):
        shutil.copytree(retrained[1]["run"], sweep / name)
    for name in ("verdict.json", "provenance.json"):
        (sweep / "02" / name).unlink()
    write_notebook(sweep / "03" / "eda.ipynb", [True, True], FAULT)
    write_notebook(sweep / "04" / "eda.ipynb", DONE)
    shutil.copytree(sweep / "01", sweep / "eda-01")
    blank = dict.fromkeys(["score", "spread", "seconds", "run", "error"])
    entries = [
        {"run": f"elsewhere/{sweep.name}/01", "score": 0.99, "spread": 0.01, "seconds": 12.5, "error": None, "parameters": {}},
        {"run": f"{sweep}/02", "score": 0.98, "spread": 0.02, "seconds": 2.5, "error": None, "parameters": {"seed": 1}},
        {"run": f"{sweep}/03", "error": "eda.ipynb, cell [2] of 2, failed:\n  more\n  KeyError: 1\nThe executed notebook is {run}", "seconds": 1.5, "parameters": {"seed": 2}},
        {"parameters": {"seed": 3}},
    ]
    told = {"score": "roc_auc", "combinations": [blank | entry for entry in entries], "made_from": {"the data": "0123456789abcdef"}}
    write_json(sweep / "sweep.json", told | {"options": {"data": "breast_cancer", "name": None}})
    listed = list_runs(runs, DEFAULTS)
    assert [(run["verdict"], run["name"], run["seconds"], run["error"]) for run in listed] == [
        ("interrupted", "breast_cancer", None, "after eda.ipynb"),
        ("failed", "breast_cancer", 1.5, "eda.ipynb, cell [2] of 2, failed: KeyError: 1"),
        ("ranked", "breast_cancer", 2.5, None),
        ("promoted", "breast_cancer", 12.5, None),
    ]
    assert listed[2]["score"] == {"name": "roc_auc", "value": 0.98, "low": None, "high": None, "spread": 0.02}
    table = " ".join(format_runs(listed).split())
    assert "roc_auc 0.9800 ± 0.0200, cross-validated run 20260101-000000-1/02, data 0123456789ab, 2.5 s" in table
    (sweep / "sweep.json").write_text("{")
    assert len(list_runs(runs, DEFAULTS)) == 4


def test_command_lists_the_runs_of_a_name(typed, runs, retrained):
    assert typed("runs").stdout == "there is no run yet; `python pipeline.py` makes one\n"
    assert typed("runs", "--json").stdout == "[]\n"
    done = typed("runs", "orders")
    assert done.returncode == 1 and "there is no run of orders; there is none of any name yet" in done.stderr
    shutil.copytree(retrained[1]["run"], runs / "20260101-000000-1")
    write_notebook(runs / "20260102-000000-1" / "eda.ipynb", DONE, told={"seed": 3, "out": "."})
    done = typed("runs", "breast_cancr")
    told = "there is no run of breast_cancr (did you mean 'breast_cancer'?); there are runs of breast_cancer"
    assert (done.returncode, done.stdout) == (1, "") and told in done.stderr
    head, *lines = typed("runs", "breast_cancer").stdout.splitlines()
    assert head.split() == ["when", "(UTC)", "verdict", "model"] and lines[0].split()[2:] == ["promoted", retrained[1]["model"]]
    listed = json.loads(typed("runs", "--json").stdout)
    assert [run["name"] for run in listed] == [None, "breast_cancer"] and listed[0]["parameters"] == {"seed": 3}
    (runs.parent / "notebooks" / "eda.ipynb").unlink()
    assert typed("runs").returncode == 0
