"""Training again from what a model recorded: the same hash, or a named difference and how far the answers are apart."""

import json
import re
import shutil
import signal
import subprocess

import nbformat
import psutil
import pytest
from conftest import UNDRAWN, copy_of
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from modeler import ModelerError
from modeler.commands.retrain import WRITES
from modeler.data.derive import derive_contract
from modeler.data.rows import split_rows
from modeler.data.tables import Table, load_table
from modeler.model.contract import read_json, write_json
from modeler.model.stored import StoredModel, content_version
from modeler.runs.reproduce import (
    Recipe,
    compare_answers,
    compare_models,
    compare_origins,
    find_first_output,
    read_recipe,
    train_again,
)
from modeler.train.estimator import convert_pipeline, encode_table

MOVED_ON = "the project's has changed since; the one that the model carries was executed"


@pytest.fixture
def stored(retrained, tmp_path):
    """The default model as a store of this test's own holds it, with a project beside it that never ran."""
    project, tag = copy_of(retrained, tmp_path / "elsewhere"), retrained[1]["model"]
    return project, StoredModel(tag, project.store / "models" / tag.replace(":", "/"))


@pytest.fixture
def recipe(stored):
    return read_recipe(stored[1], stored[0].folder / "runs")


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def list_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_lines(told):
    """The result of a reproduction by the names at the beginning of its lines; its first line under "model"."""
    first, *lines = told.splitlines()
    return {"model": first} | {line[2:16].strip(): line[17:] for line in lines}


def list_project(project):
    return [project.folder / "notebooks" / name for name in ("eda.ipynb", "train.ipynb")]


# --- whole reproductions


@pytest.mark.slow
def test_same_hash_from_another_folder_while_notebook_and_package_moved_on(stored):
    project, model = stored
    project.edit_cell("train.ipynb", "_ = pipeline.fit(", lambda source: "raise SystemExit('not the recorded one')")
    edit_json(model.path / "provenance.json", lambda then: then["packages"].update({"scikit-learn": "1.0.2"}))
    before = list_files(project.store)
    project.settings = UNDRAWN | {"PYTHONHASHSEED": "7"}
    done = project.retrain("reproduce", model.tag)
    assert done.returncode == 0, done.stdout + done.stderr
    told = read_lines(done.stdout)
    assert told.keys() == {"model", "scikit-learn", "train.ipynb", "run"}
    assert told["model"].startswith(f"{model.tag} reproduced: the same graph and contract, in ")
    assert told["scikit-learn"].startswith("1.0.2 then, 1.")
    assert told["train.ipynb"] == MOVED_ON
    (run,) = project.runs
    assert told["run"] == f"runs/{run.name}" and content_version(run) == model.version
    assert list_files(project.store) == before


@pytest.mark.slow
def test_model_of_before_is_trained_again_with_the_contract_that_its_notebook_knows(stored, tmp_path, monkeypatch):
    """`holdout` stood in the contract where `split` stands now, and eda.ipynb had no parameter `split_time`.

    It is told the estimator that was chosen then, and draws no plots.
    """
    for name, value in UNDRAWN.items():
        monkeypatch.setenv(name, value)
    folder, run = stored[1].path, tmp_path / "run"

    def write_holdout(contract):
        split = contract.pop("split")
        contract["holdout"] = {"share": split["share"], "split_by": split["by"]}

    def read_holdout(notebook):
        for cell in notebook["cells"]:
            source = "".join(cell["source"]).replace("rare_classes, holdout, split_by, split_time)", "rare_classes, holdout, split_by)")
            source = source.replace("split_time: str", "other: str").replace("    split_time=split_time,\n", "")
            source = source.replace("split_by, split_time)", "split_by)").replace("note_time(table, heldout, split_by)", "[]")
            as_before = "{'by': (was := contract['holdout'])['split_by'], 'share': was['share'], 'time': None}"
            cell["source"] = source.replace("read_split(contract)", as_before)

    contract = read_json(folder / "contract.json")
    write_holdout(contract)
    write_json(folder / "contract.json", contract)
    for name in ("eda.ipynb", "train.ipynb"):
        edit_json(folder / name, read_holdout)
    chosen = {"estimator": read_json(folder / "metrics.json")["cv"]["chosen"]}
    edit_json(folder / "provenance.json", lambda then: then["parameters"]["eda.ipynb"].pop("split_time"))
    edit_json(folder / "provenance.json", lambda then: then["parameters"]["train.ipynb"].update(chosen))
    model = StoredModel(f"breast_cancer:{content_version(folder)}", folder)
    run.mkdir()
    train_again(read_recipe(model, tmp_path), run, WRITES, lambda *_: None)
    assert compare_models(model, run) == {} and "split" not in read_json(run / "contract.json")


@pytest.mark.slow
def test_other_data_and_parameters_give_a_named_difference(stored):
    """The recorded data are a file here, with the same rows, which then loses some of them, and then is gone."""
    project, model = stored
    file = project.folder / "breast_cancer.parquet"
    table = load_table("breast_cancer")
    table.frame.to_parquet(file)
    for name in ("eda.ipynb", "train.ipynb"):
        data = {"data": str(file)} | ({"target": table.target} if name == "eda.ipynb" else {})
        edit_json(model.path / name, lambda notebook: notebook["metadata"]["papermill"]["parameters"].update(data))
        edit_json(model.path / "provenance.json", lambda then: then["parameters"][name].update(data))
    assert compare_origins(read_recipe(model, project.folder / "runs"), list_project(project)) == ({}, {})

    table.frame.iloc[:-69].to_parquet(file)
    changed = {"estimator": "logistic_regression", "threshold": "0.3"}
    edit_json(model.path / "provenance.json", lambda then: then["parameters"]["train.ipynb"].update(changed))
    before = list_files(project.store)
    done = project.retrain("reproduce", "breast_cancer")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    told = read_lines(done.stdout)
    assert told.keys() == {
        "model", "graph", "contract", "first seen", "held-out rows", "golden rows", "data", "-p estimator", "-p threshold", "run",
    }  # fmt: skip
    assert told["model"].startswith(f"{model.tag} not reproduced: graph and contract differ, in ")
    assert told["data"].endswith("; 569 rows then, 500 now; 31 columns")
    assert told["contract"].startswith("rows 569 then, 500 now; threshold of target 0.5 then, 0.3 now; ")
    assert told["first seen"].startswith("in eda.ipynb, cell [")
    assert re.match(r"\d+, their probabilities at most 0\.\d+ apart, \d+ with another label", told["held-out rows"])
    assert told["golden rows"].startswith("32, their probabilities at most 0.")
    assert told["-p threshold"] == "'0.3' in provenance.json, but train.ipynb was executed with '0.5'"
    assert list_files(project.store) == before

    file.unlink()
    done = project.retrain("reproduce", model.tag)
    assert done.returncode == 1 and not done.stdout and len(project.runs) == 1
    assert f"pipeline.py: {file}, which {model.tag} was trained on, is gone; it had 569 rows, 31 columns" in done.stderr


@pytest.mark.slow
def test_failing_cell_is_told_with_what_differs(stored):
    project, model = stored

    def alter(notebook):
        notebook["cells"][1]["source"] = "import nothing_of_that_name"

    edit_json(model.path / "eda.ipynb", alter)
    (project.folder / "notebooks" / "eda.ipynb").write_text("moved on, so nothing proves the stored one")
    done = project.retrain("reproduce", model.tag)
    assert done.returncode == 1 and not done.stdout
    told = done.stderr.partition("pipeline.py: ")[2]
    assert told.startswith(f"{model.tag} cannot be trained again: eda.ipynb, cell [1] of ")
    assert "No module named 'nothing_of_that_name'" in told
    assert "\n  cause          not in what was recorded: data, parameters, packages" in told


@pytest.mark.slow
def test_interrupt_ends_the_kernel(stored):
    project, model = stored
    status, told, family = project.interrupt("reproduce", model.tag, sent=signal.SIGTERM)
    assert status == 130 and "Traceback" not in told and "pipeline.py: interrupted" in told
    assert not psutil.wait_procs(family, timeout=15)[1]


# --- what is refused before a kernel starts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["reproduce"], 2, "the following arguments are required: MODEL_TAG"),
        (["-p", "seed=1", "reproduce", "x"], 2, "-p belongs to the retrain; reproduce takes only what"),
        (["reproduce", "nothing:latest"], 1, "there is no model nothing:latest in the store"),
    ],
)
def test_mistake_is_answered_with_one_sentence(project, words, status, sentence):
    done = project.retrain(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr and done.stderr.count("\n") == 1 and not project.runs


def lose_sources(notebook):
    for cell in notebook["cells"]:
        del cell["source"]


def write(content):
    return lambda path: path.write_text(content)


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("provenance.json", lambda path: path.unlink(), "has no readable provenance.json"),
        ("provenance.json", write("[]"), "its provenance.json is not that of a retrain"),
        ("provenance.json", write("{}"), r"its provenance.json is not that of a retrain \(KeyError: 'parameters'\)"),
        ("train.ipynb", lambda path: path.unlink(), "it carries no train.ipynb that a retrain executed"),
        ("eda.ipynb", write("{"), "it carries no eda.ipynb that a retrain executed"),
        ("eda.ipynb", write("[]"), "it carries no eda.ipynb that a retrain executed"),
        ("eda.ipynb", lambda path: edit_json(path, lose_sources), "it carries no eda.ipynb that a retrain executed"),
        ("eda.ipynb", write('{"cells": []}'), "it carries no eda.ipynb that a retrain executed"),
    ],
)
def test_model_that_lacks_what_it_was_made_from_is_told(stored, file, damage, sentence):
    model = stored[1]
    damage(model.path / file)
    with pytest.raises(ModelerError, match=f"{model.tag} .*{sentence}"):
        read_recipe(model, stored[0].folder / "runs")


def test_notebook_that_was_never_executed_is_told(stored):
    project, model = stored
    shutil.copy(project.folder / "notebooks" / "train.ipynb", model.path)
    with pytest.raises(ModelerError, match="it carries no train.ipynb that a retrain executed"):
        read_recipe(model, project.folder / "runs")


def test_file_is_read_as_it_was_told_then(stored):
    """Without the separator these lines are of three columns, and without the task the target is a number."""
    project, model = stored
    file = project.folder / "lines.csv"
    file.write_text("a;b;c|y\n" + "".join(f"{i};{i % 7};{i % 5}|{i}\n" for i in range(60)))
    told = {"data": str(file), "target": "y", "separator": "pipe", "task": "classification"}
    edit_json(model.path / "provenance.json", lambda then: then["parameters"]["eda.ipynb"].update(told))
    table = read_recipe(model, project.folder / "runs").table
    assert [*table.frame] == ["a;b;c", "y"] and table.task == "classification"


def test_data_file_is_found_by_the_run_or_named(stored, tmp_path):
    """A model records the file's name alone; its run, while it is kept, links to the file."""
    project, model = stored
    edit_json(model.path / "provenance.json", lambda then: then["parameters"]["eda.ipynb"].update(data="rows.csv", target="y"))
    runs, file = project.folder / "runs", tmp_path / "moved.csv"
    file.write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60)))
    told = "rows.csv, which .* was trained on, is gone; it had 569 rows, .* Name the file with --data FILE"
    with pytest.raises(ModelerError, match=told):
        read_recipe(model, runs)
    with pytest.raises(ModelerError, match="nowhere.csv, which .* was trained on, does not exist"):
        read_recipe(model, runs, tmp_path / "nowhere.csv")
    assert read_recipe(model, runs, file).data == file
    link = runs / model.labels["run"] / "rows.csv"
    link.parent.mkdir(parents=True)
    link.symlink_to(file)
    recipe = read_recipe(model, runs)
    assert (recipe.data, recipe.data_name, len(recipe.table.frame)) == (file, "rows.csv", 60)


# --- what differs, told part by part


def test_nothing_differs_from_what_was_just_recorded(stored, recipe, run):
    assert compare_origins(recipe, list_project(stored[0])) == ({}, {})
    assert compare_models(recipe.model, run) == find_first_output(recipe, run) == {}
    assert compare_answers(recipe, run) == {
        "held-out rows": "113, their probabilities at most 0 apart, 0 with another label"
    }


def test_python_platform_and_code_of_then_are_named(stored):
    project, model = stored

    def alter(then):
        then |= {
            "python": "3.10.1",
            "platform": "SunOS sun4v",
            "modeler": "0",
            "git": {"commit": "a" * 40, "dirty": True},
        }

    edit_json(model.path / "provenance.json", alter)
    differing, moved_on = compare_origins(read_recipe(model, project.folder / "runs"), list_project(project))
    assert differing.keys() == {"python", "platform", "modeler"} and not moved_on
    assert differing["platform"].startswith("SunOS sun4v then, ")
    assert differing["modeler"] == "its code was changed, commit aaaaaaa with changes then, no commit now"


def test_model_of_before_the_code_was_hashed_is_held_to_its_commit(stored):
    project, model = stored
    edit_json(model.path / "provenance.json", lambda then: then.pop("modeler"))
    assert compare_origins(read_recipe(model, project.folder / "runs"), list_project(project))[0] == {}
    edit_json(model.path / "provenance.json", lambda then: then.update(git={"commit": "b" * 40, "dirty": False}))
    differing, _ = compare_origins(read_recipe(model, project.folder / "runs"), list_project(project))
    assert differing == {"modeler": "its code was changed, commit bbbbbbb then, no commit now"}


def test_notebook_altered_in_the_store_is_named_where_project_or_commit_proves_it(stored):
    project, model = stored
    eda, train = list_project(project)
    git = ["git", "-C", project.folder, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "notebooks"], ["commit", "-q", "-m", "Then"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert compare_origins(read_recipe(model, project.folder / "runs"), [eda, train]) == ({}, {})

    notebook = nbformat.read(model.path / "train.ipynb", 4)
    notebook.cells[0].source += " Altered."
    nbformat.write(notebook, model.path / "train.ipynb")
    altered = {"train.ipynb": "altered in the store: its cells are not those of the notebook that was recorded"}
    assert compare_origins(read_recipe(model, project.folder / "runs"), [eda, train]) == (altered, {})

    for path in (eda, train):
        path.write_text("moved on")
    edit_json(model.path / "provenance.json", lambda then: then.update(git={"commit": commit, "dirty": False}))
    assert compare_origins(read_recipe(model, project.folder / "runs"), [eda, train]) == (altered, {"eda.ipynb": MOVED_ON})
    edit_json(model.path / "provenance.json", lambda then: then.update(git=None))
    assert compare_origins(read_recipe(model, project.folder / "runs"), [eda, train]) == ({}, {"eda.ipynb": MOVED_ON, "train.ipynb": MOVED_ON})


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda contract: contract.update(rows=570), "rows 569 then, 570 now"),
        (lambda contract: contract["features"][0].update(max=30.5), "max of mean radius 28.11 then, 30.5 now"),
        (
            lambda contract: contract["target"].update(classes=["a"]),
            r'classes of target \["benign", "malignant"\] then',
        ),
        (lambda contract: contract["features"].reverse(), "order of the columns"),
        (lambda contract: contract["features"][0].update(name="r"), "column mean radius only then; column r only now"),
        (lambda contract: [part.update(min=0) for part in contract["features"]], ".*; and 20 more"),
        (lambda contract: None, "the same content, written otherwise"),
    ],
)
def test_difference_of_the_contract_is_named(recipe, run, edit, sentence):
    edit_json(run / "contract.json", edit)
    differing = compare_models(recipe.model, run)
    assert differing.keys() == {"contract"}
    assert re.match(sentence, differing["contract"])


def test_rows_that_one_graph_cannot_answer_are_told(recipe, run):
    edit_json(run / "contract.json", lambda contract: contract["features"][0].update(name="radius"))
    assert compare_answers(recipe, run) == {"held-out rows": "cannot be answered by both: there is no column 'radius'"}


def test_values_of_a_regression_are_told_apart(tmp_path):
    table = Table("cells", load_table("breast_cancer").frame.drop(columns="diagnosis"), "mean area")
    contract = derive_contract(table, table.frame, min_association=0.5, holdout=0.2)
    X = encode_table(table.frame, contract)
    folders = tmp_path / "then", tmp_path / "now"
    predictions = []
    for folder, alpha in zip(folders, (1e4, 1e6)):
        write_json(folder / "contract.json", contract)
        fitted = Pipeline([("model", Ridge(alpha=alpha))]).fit(X, table.frame["mean area"])
        predictions.append(fitted.predict(X[split_rows(table.frame, 0.2)]))
        (folder / "model.onnx").write_bytes(convert_pipeline(fitted, X))
    told = {"parameters": {"eda.ipynb": {"holdout": 0.2, "split_by": ""}}, "data": {"sha256": ""}}
    (folders[0] / "golden.json").write_text('{"rows": [{}]}')
    apart = compare_answers(Recipe(StoredModel("a:b", folders[0]), told, {}, None, table, "0"), folders[1])
    rows, largest = re.fullmatch(r"(\d+), their values at most ([\d.]+) apart", apart["held-out rows"]).groups()
    assert int(rows) == len(predictions[0])
    assert float(largest) == pytest.approx(abs(predictions[0] - predictions[1]).max(), rel=0.05)
    assert apart["golden rows"] == "cannot be answered by both: there is no column 'mean radius'"
