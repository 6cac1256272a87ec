"""Nothing is done twice: what counts as changed since the champion, and an execution of eda.ipynb that is taken over."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import alter, copy_of

import pipeline
from modeler import ModelerError
from modeler.commands import unchanged
from modeler.commands.progress import Progress
from modeler.model.contract import read_json, write_json
from modeler.runs.earlier import find_eda, take_over
from modeler.runs.provenance import hash_file
from modeler.runs.unchanged import list_changes
from modeler.store.publish import publish_model, roll_back

STOPPED = "it would execute"
NOTEBOOKS = pipeline.NOTEBOOKS


@pytest.fixture
def project(retrained, tmp_path):
    """A project that never ran, whose store holds the champion of the default run."""
    return copy_of(retrained, tmp_path)


@pytest.fixture
def stops(typed, monkeypatch):
    """What a retrain with these words says on standard error, which is to stop where it would execute."""

    def stop(*_):
        raise ModelerError(STOPPED)

    def type_words(*words) -> str:
        monkeypatch.setattr(pipeline, "check_request", stop)
        done = typed(*words)
        assert done.returncode == 1 and STOPPED in done.stderr, done.stdout
        return done.stderr

    return type_words


@pytest.fixture
def provenance(retrained) -> dict:
    return read_json(retrained[0].runs[0] / "provenance.json")


def test_unchanged_project_is_told_without_executing_or_importing_what_is_slow(project, retrained):
    script = (
        "import sys, pipeline; status = pipeline.main(['--json'])\n"
        "slow = {'pandas', 'sklearn', 'bentoml', 'papermill', 'nbformat', 'skops'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {slow}' if slow else status)"
    )
    done = project.command("-c", script)
    assert done.returncode == 0 and not done.stderr, done.stderr
    result, before = json.loads(done.stdout), retrained[1]
    assert sorted(result) == sorted(before)
    assert (result["verdict"], result["run"], result["notebooks"]) == ("unchanged", None, [])
    assert result["model"] == result["candidate"] == before["model"]
    assert result["metrics"] == result["champion_metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    (reason,) = result["reasons"]
    assert reason.startswith(f"nothing changed since run {Path(before['run']).name} arrived at {before['model']}: compared were")
    assert "data, notebooks, parameters, package, package versions, Python, platform, floors and ceilings" in reason
    assert project.runs == []


def test_person_is_told_what_was_compared_and_how_to_execute(project, retrained, typed):
    done = typed("--min", "accuracy=0.93")  # the floor that it has anyway
    assert done.returncode == 0 and project.runs == []
    first, because, *lines = done.stdout.splitlines()
    assert first.startswith(f"{retrained[1]['model']} unchanged in ") and first.endswith(", nothing was executed")
    assert because.endswith("and it answers its golden rows; --force executes all the same")
    assert lines[-2:] == [f"  champion   {retrained[1]['model']}", "  serve it   bentoml serve"]


@pytest.mark.parametrize("option", ["--build", "--containerize"])
def test_champion_is_built_all_the_same(project, typed, monkeypatch, option):
    asked = []
    monkeypatch.setattr(unchanged, "build_champion", lambda *told: asked.append(told[:3]) or ("breast_cancer:b", "image"))
    monkeypatch.setattr("modeler.ship.build.check_engine", lambda: asked.append("engine"))
    result = json.loads(typed(option, "--json").stdout)
    assert (result["verdict"], result["bento"], result["image"]) == ("unchanged", "breast_cancer:b", "image")
    is_image = option == "--containerize"
    assert asked == ["engine"] * is_image + [(project.folder, "breast_cancer", is_image)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-p", "seed=1"], "-p seed"),
        (["-p", "min_association=0.2"], "-p min_association"),
        (["--split-by", "mean radius"], "-p split_by"),
        (["--min", "accuracy=0.5"], "the floors"),
        (["--min", "accuracy=0.93", "--min", "accuracy=0.93"], "the floors"),
        (["--min", "accuracy=much"], "the floors"),
        (["--max", "log_loss=0.5"], "the ceilings"),
        (["--target", "mean area"], "-p target, the floors"),
    ],
)
def test_other_options_are_named_and_executed(project, retrained, stops, words, named):
    assert f"changed    since {retrained[1]['model']} was made: {named}\n" in stops(*words)


def test_force_executes_and_so_does_a_name_without_a_champion(project, stops):
    assert "changed" not in stops("--force") + stops("--name", "other")


def test_edited_notebook_is_executed(project, stops):
    path = project.folder / "notebooks" / "train.ipynb"
    path.write_bytes(path.read_bytes() + b"\n")
    assert "was made: train.ipynb\n" in stops()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda then: then["packages"].update(numpy="1.0"), "numpy"),
        (lambda then: then["packages"].update(lightgbm="0.1"), "lightgbm"),
        (lambda then: then.pop("packages"), "scikit-learn"),
        (lambda then: then.update(python="3.0.1"), "Python"),
        (lambda then: then.update(platform="Plan9"), "the platform"),
        (lambda then: then.update(modeler="0" * 64), "the package modeler"),
        (lambda then: then.update(file_sha256="0" * 64), "the data"),
        (lambda then: then.pop("file_sha256"), "the data"),
        (lambda then: then.pop("floors"), "the floors"),
        (lambda then: then.pop("notebooks"), "eda.ipynb, train.ipynb"),
        (lambda then: then["notebooks"].update({"eda.ipynb": "0"}), "eda.ipynb"),
        (lambda then: then["parameters"]["train.ipynb"].pop("seed"), "-p seed"),
        (lambda then: then["parameters"]["train.ipynb"].update(search="random"), "-p search"),
        (lambda then: then.update(git={"commit": "a", "dirty": True}, eda_from="b"), ""),
    ],
)
def test_each_thing_that_decides_an_answer_counts_and_nothing_else(provenance, edit, named):
    then = copy.deepcopy(provenance)
    edit(then)
    assert ", ".join(list_changes(then, provenance)) == named


def alter_golden(model: Path) -> None:
    golden = read_json(model / "golden.json")
    golden["answers"][3]["probabilities"]["benign"] += 1e-3
    write_json(model / "golden.json", golden)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (alter_golden, "its answers to golden rows (one row a request, row 3"),
        (lambda model: (model / "model.onnx").write_bytes(b"x"), "was changed after it was stored"),
        (lambda model: (model / "verdict.json").unlink(), "has no readable verdict.json"),
        (lambda model: (model / "golden.json").write_text('{"rows": 1}'), "it cannot answer its golden rows (KeyError: 'answers')"),
        (lambda model: (model / "provenance.json").unlink(), "has no readable provenance.json"),
        (lambda model: (model / "provenance.json").write_text("[]"), "'list' object has no attribute"),
        (lambda model: write_json(model / "provenance.json", {"parameters": []}), "'list' object has no attribute"),
    ],
)
def test_champion_that_is_damaged_or_answers_otherwise_is_trained_again(project, retrained, stops, damage, named):
    damage(project.store / "models" / retrained[1]["model"].replace(":", "/"))
    assert re.search(f"was made: .*{re.escape(named)}", stops())


def test_champion_must_be_the_version_that_these_inputs_made(project, run, home, typed, stops):
    provenance = read_json(run / "provenance.json")
    provenance["parameters"]["train.ipynb"]["seed"] = 1
    write_json(run / "provenance.json", provenance)
    altered, tag = alter(run, "breast_cancer")
    publish_model(altered, tag, {}, {})
    assert f"since {tag} was made: -p seed\n" in stops()
    roll_back("breast_cancer", None, lambda model: None)
    assert "unchanged" in typed().stdout


def test_run_that_found_the_champion_unchanged_counts_as_much_as_the_one_that_made_it(project, retrained, typed, stops):
    """As after an update of a package that changed no answer; a rejected run of the same inputs proves nothing."""
    stored = project.store / "models" / retrained[1]["model"].replace(":", "/") / "provenance.json"
    then = read_json(stored)
    write_json(stored, then | {"packages": then["packages"] | {"numpy": "1.0"}})
    run = Path(shutil.copytree(retrained[1]["run"], project.folder / "runs" / "20260101-000000-1"))
    for verdict, is_proof in {"unchanged": True, "rejected": False}.items():
        write_json(run / "verdict.json", read_json(run / "verdict.json") | {"verdict": verdict})
        told = typed().stdout if is_proof else stops()
        assert ("since run 20260101-000000-1 arrived at" in told) == is_proof and ("was made: numpy" in told) != is_proof
    write_json(run / "verdict.json", read_json(run / "verdict.json") | {"verdict": "promoted"})
    assert "since run 20260101-000000-1 arrived at" in typed().stdout and "was made: numpy, -p seed\n" in stops("-p", "seed=1")
    write_json(run / "verdict.json", {"verdict": "promoted", "candidate": "breast_cancer:0123"})
    (run.parent / "20260102-000000-1").mkdir()
    (run.parent / "20260102-000000-1" / "verdict.json").write_text("[")
    assert "was made: numpy" in stops()


def test_file_is_compared_by_its_bytes_wherever_it_is(project, retrained, run, home, typed, stops):
    file = project.folder / "rows.csv"
    file.write_text("x,y\n1,a\n")
    provenance = read_json(run / "provenance.json") | {"name": "rows", "file_sha256": hash_file(file), "floors": {}}
    provenance["parameters"]["eda.ipynb"] |= {"data": "rows.csv", "target": "y"}
    provenance["parameters"]["train.ipynb"] |= {"data": "rows.csv"}
    write_json(run / "provenance.json", provenance)
    publish_model(run, retrained[1]["model"].replace("breast_cancer", "rows"), {"run": "one"}, {})
    (project.folder / "elsewhere").mkdir()
    elsewhere = shutil.copy(file, project.folder / "elsewhere")
    for path in (file, elsewhere):
        done = typed("--data", path, "--target", "y")
        assert done.returncode == 0 and "serve it   bentoml serve --arg model=rows" in done.stdout, done.stderr
    file.write_text("x,y\n1,a\n2,b\n")
    assert "was made: the data\n" in stops("--data", file, "--target", "y")
    file.unlink()
    assert "changed" not in stops("--data", file, "--target", "y")


def test_mistake_in_a_parameter_is_answered_before_anything_is_compared(project, typed):
    done = typed("-p", "estimater=x")
    assert done.returncode == 2 and "did you mean 'estimator'?" in done.stderr


# --- an execution of eda.ipynb that is taken over


@pytest.fixture
def runs(retrained, tmp_path) -> Path:
    """A folder of runs with the default one."""
    return shutil.copytree(retrained[1]["run"], tmp_path / "runs" / "20260101-000000-1").parent


def test_eda_is_taken_over_if_only_training_changed(runs, provenance, tmp_path):
    provenance["parameters"]["train.ipynb"]["seed"] = 1
    provenance["notebooks"]["train.ipynb"] = provenance["floors"] = "other"
    earlier = find_eda(runs, NOTEBOOKS[0], provenance)
    assert earlier == runs / "20260101-000000-1"
    (run := tmp_path / "new").mkdir()
    write_json(run / "provenance.json", provenance)
    execution = take_over(earlier, run, Progress())
    assert execution.path == run / "eda.ipynb" and execution.seconds > 1
    assert execution.given.keys() == {"provenance.json"} and execution.left.keys() == {"provenance.json", "contract.json"}
    assert (run / "eda.ipynb").read_bytes() == (earlier / "eda.ipynb").read_bytes()


def edit_source(runs: Path) -> None:
    path = runs / "20260101-000000-1" / "eda.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][-1]["source"] += "\n"
    path.write_text(json.dumps(notebook))


@pytest.mark.parametrize(
    "change",
    [
        lambda now, runs: now["parameters"]["eda.ipynb"].update(holdout=0.3),
        lambda now, runs: now["notebooks"].update({"eda.ipynb": "0"}),
        lambda now, runs: now.update(file_sha256="0"),
        lambda now, runs: now.update(modeler="0"),
        lambda now, runs: shutil.rmtree(runs / "20260101-000000-1" / "eda"),
        lambda now, runs: (runs / "20260101-000000-1" / "eda.ipynb").unlink(),
        lambda now, runs: (runs / "20260101-000000-1" / "eda.ipynb").write_text("{"),
        lambda now, runs: (runs / "20260101-000000-1" / "provenance.json").write_text("[]"),
        lambda now, runs: edit_source(runs),
    ],
)
def test_eda_of_other_inputs_or_edited_since_is_not_taken_over(runs, provenance, change):
    assert find_eda(runs, NOTEBOOKS[0], provenance)
    change(provenance, runs)
    assert find_eda(runs, NOTEBOOKS[0], provenance) is None
