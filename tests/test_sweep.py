"""Sweeps: the grid and its mistakes, the ranking, and real sweeps on this machine and on a Dask cluster, killed in the middle."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from cells import run_cells
from clusters import start_scheduler, start_worker, wait_for
from conftest import ROOT, UNDRAWN, Project, default_signals, is_alive

from modeler import ModelerError, UsageError
from modeler.cluster import connect
from modeler.commands.combinations import list_plans
from modeler.commands.retrain import RESERVED
from modeler.runs.parameters import read_parameters
from modeler.sweep.grid import check_number, list_combinations, read_grid
from modeler.sweep.page import format_table, write_page
from modeler.sweep.record import Sweep, check_unchanged, hold_sweep, make_entry, read_score, read_sweep, resume_sweep
from modeler.sweep.step import RUN, Result

NOTEBOOKS = [ROOT / "notebooks" / name for name in ("eda.ipynb", "train.ipynb")]
KNOWN = {path.name: read_parameters(path) for path in NOTEBOOKS}
SMALL = ["-p", "estimator=logistic_regression,extra_trees", "-p", "n_estimators=5,10"]


def list_told(*given: str) -> list[list[str]]:
    return list_combinations(read_grid(given, KNOWN, RESERVED))


# --- the grid


def test_every_value_meets_every_other():
    assert list_told("seed=0,1", "estimator=random_forest") == [
        ["seed=0", "estimator=random_forest"],
        ["seed=1", "estimator=random_forest"],
    ]
    assert len(list_told("seed=0,1,2", "n_estimators=50,200", "threshold=auto,0.3,recall:0.9")) == 18
    assert list_told() == [[]]


def test_texts_that_may_hold_commas_are_not_parted_but_repeated():
    assert list_told("columns=a=category,b=drop", "columns=a=drop") == [["columns=a=category,b=drop"], ["columns=a=drop"]]
    assert list_told("leave_out=a,b", "seed=0,1", "seed=2") == [["leave_out=a,b", f"seed={n}"] for n in range(3)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["seed=0,x"], "seed must be a whole number, got: x"),
        (["estimator=random_forest,random_forst"], "got: random_forst (did you mean 'random_forest'?)"),
        (["sed=0,1"], "no notebook has a parameter 'sed' (did you mean 'seed'?)"),
        (["seed"], "a parameter is given as KEY=VALUE"),
        (["target=a,b"], "target is set by --target"),
        (["seed=0,1,00"], "-p seed=0,1,00: seed=00 is given twice, and so would be its combinations; give it once"),
        (["holdout=0.2", "holdout=0.20"], "holdout=0.20 is given twice"),
    ],
)
def test_mistake_in_one_value_is_one_sentence(given, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        list_told(*given)


def test_very_many_combinations_need_a_yes():
    check_number(range(200), False)
    check_number(range(201), True)
    with pytest.raises(UsageError, match="these are 201 combinations; more than 200 need --yes"):
        check_number(range(201), False)


def test_classes_and_values_are_not_ranked_together():
    options = {"data": "a.csv", "target": "y", "name": None, "split_by": None, "split_time": None, "yes": False}
    options |= {"param": ["task=classification,regression"]}
    with pytest.raises(UsageError, match="scores of classes and of values cannot be compared"):
        list_plans(SimpleNamespace(**options), NOTEBOOKS)


# --- the record


def make_result(score: float | None, error: str | None = None, chosen: str = "a") -> Result:
    compared = [{"estimator": "b", "mean": 1, "std": 0}, {"estimator": "a", "mean": score, "std": 0.01}]
    cv = {"score": "roc_auc_ovr", "folds": 5, "compared": compared, "chosen": chosen}
    return Result({"metrics.json": json.dumps({"roc_auc": 0.1, "cv": cv}).encode()}, error, 2.0)


FIRST = Result({"eda.ipynb": b'{"metadata": {"papermill": {"duration": 1.5}}}', "contract.json": b"{}"}, None, 1.5)


@pytest.fixture
def record(tmp_path) -> Sweep:
    """A sweep with four combinations, of which the last is to be done and the second failed; the third is the best."""
    entries = [make_entry({"seed": seed, "estimator": "<b>"}) for seed in range(4)]
    record = Sweep(tmp_path / "runs" / "one", {"param": ["seed=0,1,2,3"]}, {"the data": "1", "train.ipynb": "2"}, entries)
    record.take(0, FIRST, make_result(0.8), None)
    record.take(1, FIRST, Result({}, f"train.ipynb, cell [3] of 9, failed: <b>no\nThe executed notebook is {RUN}/train.ipynb", 0), None)
    record.take(2, FIRST, make_result(0.9), None)
    return record


def test_ranking_is_by_the_chosen_estimators_mean_on_training_rows(record):
    assert [entry["parameters"]["seed"] for entry in record.rank()] == [2, 0, 1, 3]
    record.take(3, FIRST, make_result(0.9), None)
    assert [entry["parameters"]["seed"] for entry in record.rank()] == [2, 3, 0, 1]  # the earlier of two equal
    assert read_score({"metrics.json": b'{"cv": {"score": "r2", "mean": 0.5, "std": 0.1, "folds": 5}}'}) == ("r2", 0.5, 0.1)


def test_sweep_json_holds_what_design_says(record):
    told = json.loads((record.folder / "sweep.json").read_text())
    assert "never the hold-out" in told["rule"] and "roc_auc_ovr" in told["rule"]
    assert told["combinations"][0] == {
        "parameters": {"seed": 2, "estimator": "<b>"}, "score": 0.9, "spread": 0.01, "seconds": 3.5,
        "run": str(record.folder / "03"), "error": None,
    }  # fmt: skip
    assert told["combinations"][2]["error"].endswith(f"{record.folder / '02'}/train.ipynb")
    assert not list(record.folder.glob(".*"))


def test_notebook_without_a_score_is_a_failure_that_says_so(record):
    record.take(3, FIRST, make_result(float("nan")), None)
    assert "wrote no `cv`" in record.combinations[3]["error"] and record.combinations[3]["score"] is None
    record.take(3, FIRST, make_result(0.5, chosen="c"), None)
    assert "wrote no `cv`" in record.combinations[3]["error"]


def test_resume_keeps_what_has_a_score_and_a_run(record):
    parameters = [entry["parameters"] for entry in record.combinations]
    told = read_sweep(record.folder.parent, "runs/one/")
    again = resume_sweep(told, record.made_from, parameters)
    assert again.combinations[0] == record.combinations[0] and again.score == "roc_auc_ovr"
    assert [entry["score"] for entry in again.combinations] == [0.8, None, 0.9, None]
    assert [entry["error"] for entry in again.combinations] == [None] * 4
    for path in (record.folder / "01").iterdir():
        path.unlink()
    (record.folder / "01").rmdir()
    again = resume_sweep(told, record.made_from, parameters)
    assert [entry["score"] for entry in again.combinations] == [None, None, 0.9, None]


def test_only_one_process_works_on_a_sweep(record):
    with hold_sweep(record.folder):
        with pytest.raises(ModelerError, match="another process works on the sweep one; wait until it ends"):
            with hold_sweep(record.folder):
                pass
    with hold_sweep(record.folder):
        pass


def test_resume_refuses_what_changed_and_what_is_not_there(record):
    with pytest.raises(ModelerError, match="one cannot go on: the data, train.ipynb changed since it began"):
        check_unchanged("one", record.made_from, {"the data": "3", "train.ipynb": "4"})
    with pytest.raises(UsageError, match="no sweep of this name is in .*; there is one"):
        read_sweep(record.folder.parent, "two")
    (record.folder / "sweep.json").write_text("{")
    with pytest.raises(ModelerError, match="sweep.json is damaged"):
        read_sweep(record.folder.parent, "one")


def test_table_and_page_say_how_it_was_ranked_and_load_nothing(record):
    table, page = format_table(record), write_page(record).read_text("utf-8")
    for text in (table, page):
        assert "roc_auc_ovr on the training rows" in text and "never the hold-out" in text
        assert "cell [3] of 9, failed: " in text and "to do" in text and "0.9000" in text
    assert table.index("0.9000") < table.index("0.8000") and "estimator" not in table  # it does not vary
    assert "data:image/png;base64," in page and "&lt;b&gt;no" in page and "<b>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script", page)


# --- real sweeps


LOOK = """
import json, os, pathlib, shutil, time
told = pathlib.Path({folder!r})
_ = shutil.copy(told / "contract.json", out)
print("looked")
"""
HOLD = LOOK + """
if n_estimators == 5 and estimator == "extra_trees":
    raise ValueError("told to fail")
if n_estimators == 10 and estimator == "extra_trees" and (told / "hang").exists():
    _ = (told / "hang").rename(told / "hung").write_text(str(os.getpid()))
    time.sleep(600)
"""
COPY = """
for name in ("model.onnx", "model.skops"):
    _ = shutil.copy(told / name, out)
cv = {"score": "roc_auc_ovr", "mean": n_estimators / 100 + len(estimator) / 1000, "std": 0.01, "folds": 5}
metrics = json.loads((told / "metrics.json").read_text()) | {"cv": cv}
_ = pathlib.Path(out, "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a small table, and what the cells of both notebooks make of it."""
    folder, drawn = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    frame = pd.DataFrame(drawn.normal(size=(150, 3)).round(3), columns=list("abc"))
    frame["y"] = np.where(frame.a + 0.5 * drawn.normal(size=150) > 0, "yes", "no")
    frame.to_csv(folder / "small.csv", index=False)
    told = {"data": "small.csv", "target": "y", "estimator": "logistic_regression", "out": "."}
    with chdir(folder):
        for name in KNOWN:
            run_cells(told, notebook=name)
        plt.close("all")
    return folder


@pytest.fixture
def small(trained, project) -> Project:
    """A project with a small table."""
    shutil.copy(trained / "small.csv", project.folder)
    return project


@pytest.fixture
def quick(trained, small, tmp_path) -> Project:
    """Its notebooks copy what was trained; one combination fails, and one hangs once if there is a file `hang`."""
    shutil.copytree(trained, tmp_path / "told")
    look, hold = (code.replace("{folder!r}", repr(str(tmp_path / "told"))) for code in (LOOK, HOLD))
    small.replace_cells("eda.ipynb", look)
    small.replace_cells("train.ipynb", hold, COPY)
    return small


def start_sweep(project: Project, *words) -> subprocess.Popen:
    words = [sys.executable, "pipeline.py", "sweep", "--data", "small.csv", "--target", "y", *SMALL, "--json", *words]
    return subprocess.Popen(
        words, cwd=project.folder, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=default_signals,
    )  # fmt: skip


def read_record(project: Project) -> dict:
    (run,) = project.runs
    return json.loads((run / "sweep.json").read_text())


def count_scored(project: Project) -> int:
    return bool(project.runs and (project.runs[0] / "sweep.json").exists()) and sum(
        entry["score"] is not None for entry in read_record(project)["combinations"]
    )


def stamp(project: Project) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in project.runs[0].glob("0*/train.ipynb")}


@pytest.mark.slow
def test_best_of_two_combinations_of_the_notebooks_is_proven(small):
    small.settings = UNDRAWN | {"MLFLOW_TRACKING_URI": "http://somebody:secret@127.0.0.1:9"}  # where nobody is
    words = ["sweep", "--data", "small.csv", "--target", "y", "-p", "estimator=logistic_regression,extra_trees", "--json"]
    done = small.retrain(*words, "-p", "n_estimators=5", "--cluster", "local:2")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    best, other = result["combinations"]
    assert best["score"] > other["score"] > 0.5 and result["run"] == best["run"]
    cv = json.loads(Path(best["run"], "metrics.json").read_text())["cv"]
    assert cv["chosen"] == best["parameters"]["estimator"] and cv["compared"][0]["mean"] == best["score"]
    assert result["verdict"] == "promoted" and all(one["cells_compared"] > 15 for one in result["notebooks"])
    assert small.stored == [result["model"]]
    assert done.stderr.count("mlflow     nothing is noted at http://127.0.0.1:9: ") == 1 and "secret" not in done.stderr


@pytest.mark.slow
def test_killed_and_half_failed_sweep_goes_on_and_its_best_is_proven(quick, typed, tmp_path):
    (tmp_path / "told" / "hang").touch()
    process = start_sweep(quick, "--cluster", "local:2")
    wait_for(lambda: count_scored(quick) == 2 and (tmp_path / "told" / "hung").exists(), process)
    wait_for(lambda: any(entry["error"] for entry in read_record(quick)["combinations"]), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not any(map(is_alive, family)), seconds=20)
    begun, (folder,) = stamp(quick), quick.runs
    assert sorted(begun) == ["01", "02", "03"] and not (quick.store / "models").exists()

    done = quick.retrain("sweep", "--resume", folder.name, "--json")
    assert done.returncode == 0, done.stderr
    assert re.search(r"  .*extra_trees, n_estimators=5: failed: train.ipynb, cell \[\d+\] of \d+, failed:", done.stderr)
    result = json.loads(done.stdout)
    assert result["sweep"] == str(folder) and result["combinations"] == read_record(quick)["combinations"]
    *scored, failed = result["combinations"]
    scores = [entry["score"] for entry in scored]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and failed["score"] is None
    assert failed["parameters"] == {"estimator": "extra_trees", "n_estimators": 5} and "told to fail" in failed["error"]
    assert Path(failed["run"], "train.ipynb").exists()
    assert result["verdict"] == "promoted" and [one["cells_compared"] for one in result["notebooks"]] == [3, 4]
    assert result["run"] == scored[0]["run"] and scored[0]["parameters"] == {"estimator": "logistic_regression", "n_estimators": 10}
    assert all(stamp(quick)[name] == begun[name] for name in ("01", "02"))  # executed once
    names = ["01", "02", "03", "04", "eda-01", "sweep.html", "sweep.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    stored = quick.store / "models" / result["model"].replace(":", "/")
    assert (folder.parent / yaml.safe_load((stored / "model.yaml").read_text())["labels"]["run"] / "small.csv").exists()

    for words, told in {
        ("-p", "seed=1"): "-p is not what the sweep was begun with",
        ("--min", "accuracy=0.5"): "--min is not what the sweep was begun with",
    }.items():
        done = typed("sweep", "--resume", folder.name, *words)
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    quick.edit_cell("train.ipynb", "told to fail", lambda source: source + "\n")
    done = typed("sweep", "--resume", folder.name)
    assert done.returncode == 1 and "cannot go on: train.ipynb changed since it began" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweep_ends_its_kernels_and_says_how_it_goes_on(sent, quick):
    words = "sweep", "--data", "small.csv", "--target", "y", *SMALL, "--cluster", "local:2"
    status, told, family = quick.interrupt(*words, sent=sent)
    assert status == 130 and "Traceback" not in told
    assert f"resume     python pipeline.py sweep --resume {quick.runs[0].name}" in told
    wait_for(lambda: not any(map(is_alive, family)), seconds=20)
    assert len(read_record(quick)["combinations"]) == 4


@pytest.mark.slow
def test_combination_of_a_killed_worker_is_done_elsewhere(quick, tmp_path):
    (tmp_path / "told" / "hang").touch()
    with ExitStack() as stack:
        address = start_scheduler(stack, tmp_path)
        started = [stack.enter_context(start_worker(address, tmp_path / f"worker{number}")) for number in range(2)]
        workers = {worker.pid: worker for worker in started}
        process = start_sweep(quick, "--cluster", address)
        hung = tmp_path / "told" / "hung"
        wait_for(lambda: hung.exists() and hung.read_text() and count_scored(quick) >= 1, process)
        kernel = psutil.Process(int(hung.read_text()))
        workers[next(one.pid for one in kernel.parents() if one.pid in workers)].kill()
        printed, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        wait_for(lambda: not is_alive(kernel), seconds=20)
        assert not any(any((tmp_path / f"worker{number}" / "work").iterdir()) for number in range(2))
    result = json.loads(printed)
    assert [bool(entry["error"]) for entry in result["combinations"]] == [False] * 3 + [True]
    assert result["verdict"] == "promoted" and said.count(" of 4  ") == 4
    executed = Path(result["run"], "train.ipynb").read_text()
    assert str(tmp_path / "worker") not in executed.replace(json.dumps(str(tmp_path / "told"))[1:-1], "")


@pytest.mark.medium
def test_bad_input_is_one_sentence_before_any_kernel(small, typed, monkeypatch):
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:  # accepts, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent_at = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        for words, status, told in [
            (["--cluster", silent_at], 1, f"--cluster {silent_at}: no Dask scheduler answers there"),
            (["--cluster", "local:0"], 2, "local:N takes a number of workers from 1 to 1024"),
            (["-p", "positive=maybe"], 2, "combination estimator=logistic_regression, n_estimators=5, positive=maybe: -p pos"),
            (["-p", "class_weight=none,heavy"], 2, "class_weight must be one of none, balanced, got: heavy"),
            (["-p", f"seed={','.join(map(str, range(51)))}"], 2, "these are 204 combinations; more than 200 need --yes"),
            (["--resume", "yesterday"], 2, "there is none yet"),
        ]:  # fmt: skip
            done = typed("sweep", "--data", "small.csv", "--target", "y", *SMALL, "--json", *words)
            assert done.returncode == status and told in json.loads(done.stdout)["error"], done.stderr
            assert "Traceback" not in done.stderr and small.runs == []


def test_dry_run_lists_and_executes_nothing(small, typed):
    words = ["sweep", "--data", "small.csv", "--target", "y", *SMALL, "--dry-run"]
    done = typed(*words)
    assert done.returncode == 0 and done.stdout.splitlines()[-2:] == ["estimator=extra_trees, n_estimators=10", "4 combinations"]
    listed = json.loads(typed(*words, "--json").stdout)["combinations"]
    assert listed[1] == {"estimator": "logistic_regression", "n_estimators": 10} and small.runs == []
