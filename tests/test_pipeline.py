"""The retrain as people run it: one verdict, one right exit status, and a store that only proven models reach."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import QUICK, RENAMED, ROOT, SECRET, Project, copy_of, needs_linux, read_whole
from sklearn.datasets import load_breast_cancer

from modeler.runs.ending import find_ending

FIELDS = [
    "run", "model", "candidate", "verdict", "reasons", "warnings", "metrics", "champion_metrics", "notebooks", "eda_from", "bento",
    "image", "seconds",
]  # fmt: skip
FILES = [
    "card.html", "contract.json", "eda", "eda.html", "eda.ipynb", "golden.json", "importance.json", "metrics.json", "model.onnx",
    "model.skops", "provenance.json", "reference.json", "train.html", "train.ipynb", "verdict.json",
]  # fmt: skip


def refused(done: subprocess.CompletedProcess, status: int) -> str:
    """The one sentence of a refusal, held to having no traceback and the right status."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    return done.stderr.partition("pipeline.py: ")[2]


# --- a run with the true defaults


def test_default_retrain_prints_one_json_object(retrained):
    project, result = retrained
    assert sorted(result) == sorted(FIELDS)
    assert (result["verdict"], result["reasons"], result["champion_metrics"]) == ("promoted", [], None)
    assert result["model"] == result["candidate"] and result["bento"] is result["image"] is None
    assert [list(notebook) for notebook in result["notebooks"]] == [["path", "seconds", "cells_compared"]] * 2
    for notebook in result["notebooks"]:
        cells = json.loads(open(notebook["path"]).read())["cells"]
        assert notebook["cells_compared"] == sum(cell["cell_type"] == "code" for cell in cells) > 15
    assert project.stored == [result["model"]]


def test_default_model_finds_the_cancer(retrained):
    _, result = retrained
    assert result["metrics"]["recall:malignant"] >= 0.9 and result["metrics"]["accuracy"] >= 0.93


def test_default_model_is_held_to_floors_that_nobody_gave(retrained):
    verdict = json.loads((retrained[0].runs[0] / "verdict.json").read_text())
    floors = {check["name"]: check["threshold"] for check in verdict["checks"] if check["name"].startswith("floor")}
    assert floors == {"floor of accuracy": 0.93, "floor of recall:malignant": 0.9}


def test_run_holds_every_file_and_nothing_else(retrained):
    project, result = retrained
    (run,) = project.runs
    assert str(run) == result["run"] and sorted(path.name for path in run.iterdir()) == FILES


def test_provenance_says_what_the_run_was_made_from(retrained):
    project, result = retrained
    provenance = json.loads((project.runs[0] / "provenance.json").read_text())
    assert provenance["parameters"]["train.ipynb"]["estimator"] == "auto" and provenance["seed"] == 0
    assert provenance["data"]["rows"] == 569 and len(provenance["data"]["sha256"]) == 64
    assert provenance["holdout"]["rows"] == 113
    assert {"numpy", "pandas", "scikit-learn", "skl2onnx", "onnxruntime"} <= provenance["packages"].keys()
    assert provenance["python"] == ".".join(map(str, sys.version_info[:3]))
    assert provenance["git"] is None  # this copy of the project is no checkout


def test_no_secret_of_the_environment_is_in_the_run(retrained):
    project, result = retrained
    for path in filter(Path.is_file, project.runs[0].rglob("*")):
        assert SECRET.encode() not in read_whole(path), path


@pytest.mark.slow
def test_second_folder_and_process_arrive_at_the_same_version(retrained, shipped):
    (second, made), result = shipped, retrained[1]
    again = made["result"]
    assert (again["verdict"], again["model"]) == ("unchanged", result["model"])
    assert again["champion_metrics"] == result["metrics"] == again["metrics"]
    assert second.stored == [result["model"]]


@pytest.mark.slow
def test_verify_replays_the_golden_rows(retrained):
    project, result = retrained
    for tag in (result["model"], "breast_cancer", "breast_cancer:latest"):
        done = project.retrain("verify", tag)
        assert done.returncode == 0, done.stderr
        assert f"{result['model']} answers its 32 golden rows as the estimator did" in done.stdout


def test_verify_tells_a_difference_row_by_row(retrained, tmp_path):
    project, result = copy_of(retrained, tmp_path / "copy"), retrained[1]
    path = project.store / "models" / result["model"].replace(":", "/") / "golden.json"
    golden = json.loads(path.read_text())
    golden["answers"][5]["probabilities"]["benign"] += 2e-5
    path.write_text(json.dumps(golden))
    done = project.retrain("verify", "breast_cancer")
    assert done.returncode == 1
    assert "differs from its golden rows" in done.stdout and "row 5:" in done.stdout and "row 6:" not in done.stdout


@pytest.mark.medium
def test_verify_of_an_unknown_model_says_what_to_do(project):
    told = refused(project.retrain("verify", "nothing:0123"), 1)
    assert told.startswith("there is no model nothing:0123 in the store")


# --- what is refused before any kernel starts


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["-p", "estimater=x"], 2, "no notebook has a parameter 'estimater' (did you mean 'estimator'?)"),
        (["-p", "seed=many"], 2, "seed must be a whole number, got: many"),
        (["-p", "estimator=forest"], 2, "estimator must be one of auto, logistic_regression"),
        (["-p", "estimator=gradient_boosting", "-p", "class_weight=balanced"], 2, "gradient_boosting cannot weigh classes"),
        (["-p", "class_weight=balanced", "--target", "mean area"], 2, "only classes have a weight, and 'mean area' has"),
        (["-p", "target_transform=log"], 2, "only values have a logarithm, and 'diagnosis' has classes"),
        (["-p", "target_transform=log", "--target", "mean concavity"], 2, "and 'mean concavity' holds 0 and 12 more up"),
        (["-p", "positive=cancer"], 2, "-p positive=cancer: the class looked for must be one of benign and malignant"),
        (["-p", "positive=a", "--target", "mean area"], 2, "must be left out: 'mean area' has not two classes"),
        (["-p", "split_by=x"], 2, "split_by is set by --split-by"),
        (["--min", "acuracy=0.9"], 2, "--min acuracy=0.9: no such bound for a classification"),
        (["--max", "accuracy=0.9"], 2, "--max accuracy=0.9: no such bound"),
        (["--min", "recall:maligant=0.9"], 2, "recall:malignant"),
        (["--data", "x.csv"], 2, "--data x.csv needs --target COLUMN"),
        (
            ["--name", "My Model"],
            2,
            "--name My Model: a model's name is of a-z, 0-9 and _, at most 40, such as my_model",
        ),
        (["--cell-timeout", "0"], 2, "must be a whole number of seconds from 1 to 9999999, got: 0"),
        (["--cell-timeout", "²"], 2, "must be a whole number of seconds from 1 to 9999999, got: ²"),
        (["--split-by", ""], 2, "argument --split-by: must not be empty"),
        (["--split-by", "diagnosis"], 2, "--split-by diagnosis: this is the target"),
        (["-p", "split_time=x"], 2, "split_time is set by --split-time"),
        (["--split-time", "diagnosis"], 2, "--split-time diagnosis: this is the target; name a column such as a date"),
        (["-p", "seed=4294967296"], 2, "seed must be from 0 to 4294967295, got: 4294967296"),
        (["--min", "accuracy=0.9", "--min", "accuracy=0.1"], 2, "--min accuracy=0.1: accuracy is given twice"),
        (["--data", "rare.csv", "--target", "y"], 1, "class 'c' of 'y' has 1 rows to train on and 0 held out"),
        (
            ["--data", "few.csv", "--target", "x"],
            1,
            "few has 2 rows to train on and 3 held out, where 5 and 1 are needed",
        ),
        (["--data", "infinite.csv", "--target", "y"], 1, "column 'x' is infinite or beyond 3.4e+38 in 1 rows"),
        (["--data", "dates.parquet", "--target", "day"], 1, "target 'day' is a date"),
        (["--promote-if", "always"], 2, "argument --promote-if: invalid choice: 'always' (choose from"),
        (["--bogus"], 2, "unrecognized arguments: --bogus; `pipeline.py --help` shows what there is"),
        (["--name", "x", "verify", "x"], 2, "--name belongs to the retrain"),
        (["--data", "breast_cancr"], 1, "did you mean 'breast_cancer'?"),
        (["--data", "nowhere.csv", "--target", "y"], 1, "data file nowhere.csv does not exist"),
        (["--data", "damaged.parquet", "--target", "y"], 1, "damaged.parquet cannot be read as Parquet: "),
        (["--target", "diagnose"], 1, "target 'diagnose' is not a column of breast_cancer (did you mean 'diagnosis'?)"),
        (["--split-by", "patient"], 1, "--split-by 'patient' is not a column"),
        (["--split-time", "mean radus"], 1, "--split-time 'mean radus' is not a column (did you mean 'mean radius'?)"),
    ],
)
def test_mistake_is_answered_with_one_sentence_before_a_run_is_made(project, typed, options, status, sentence):
    (project.folder / "damaged.parquet").write_text("PAR1")
    (project.folder / "rare.csv").write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(100)) + "1,c\n")
    (project.folder / "few.csv").write_text("x,z\n0.5,1\n1.5,2\n2.5,4\n3.5,2\n4.5,0\n")
    (project.folder / "infinite.csv").write_text("x,y\ninf,a\n1,b\n")
    pd.DataFrame({"day": pd.date_range("2024-01-01", periods=9)}).to_parquet(project.folder / "dates.parquet")
    told = refused(typed(*options), status)
    assert sentence in told and told.count("\n") == 1
    assert not project.runs and not project.store.exists()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "status"), [(["-p", "seed=x"], 2), (["--data", "nowhere.csv", "--target", "y"], 1)]
)
def test_refusal_is_one_json_object_where_json_was_asked_for(project, options, status):
    done = project.retrain("--json", *options)
    assert done.returncode == status
    assert list(json.loads(done.stdout)) == ["error"]


@needs_linux("which has a file that is always full")
@pytest.mark.slow
@pytest.mark.parametrize("options", [["-p", "seed=x", "--json"], ["verify", "nothing"]])
def test_output_that_nobody_reads_leaves_the_exit_status(project, options):
    expected = project.retrain(*options).returncode
    with open("/dev/full", "w") as full:
        done = project.retrain(*options, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == expected and "Traceback" not in done.stderr


def test_notebook_without_parameters_cell_is_named(project, typed):
    path = project.folder / "notebooks" / "train.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"other"'))
    told = refused(typed(), 1)
    assert told.startswith("train.ipynb has no cell tagged `parameters`; tag the one cell")
    assert not project.runs


def test_parameter_that_the_pipeline_relies_on_is_missed(project, typed):
    project.edit_cell("eda.ipynb", "holdout: float", lambda source: source.replace("holdout: float", "share: float"))
    told = refused(typed(), 1)
    assert told.startswith("eda.ipynb lacks the parameter holdout, which the pipeline relies on; restore its line")


def test_runs_that_cannot_be_written_are_named(project, typed):
    (project.folder / "runs").write_text("in the way")
    told = refused(typed(), 1)
    assert "cannot be made: Not a directory; make room or permit writing there" in told


@pytest.mark.medium
def test_store_that_cannot_be_written_is_found_before_a_kernel_starts(project):
    project.store.write_text("in the way")
    told = refused(project.retrain(), 1)
    assert "the model store" in told and "cannot be written: Not a directory" in told
    assert not project.runs


# --- what is planted in a notebook


@pytest.fixture
def small(project) -> list[str]:
    """The options of a retrain on a small table, for faults that show on any: 200 rows of four columns."""
    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.iloc[:200, :4].assign(diagnosis=bunch.target_names[bunch.target[:200]])
    frame.to_csv(project.folder / "small.csv", index=False)
    return ["--data", "small.csv", "--target", "diagnosis", *QUICK]


WRITE_CONTRACT = 'print("looked"); _ = open(f"{out}/contract.json", "w").write("{}")'
WRITE_MODEL = 'for name in ("model.onnx", "model.skops", "metrics.json"):\n    _ = open(f"{out}/{name}", "w").write("{}")'


@pytest.mark.slow
def test_random_print_fails_and_keeps_the_run(project, typed, small):
    project.replace_cells("eda.ipynb", WRITE_CONTRACT, "import random; print(random.random())")
    project.replace_cells("train.ipynb", WRITE_MODEL, "print(seed)")
    told = refused(typed(*small, kernels=True), 1)
    assert "eda.ipynb is not reproducible: cell [4] gave another output the second time" in told
    assert (project.runs[0] / "reproduce" / "eda" / "eda.ipynb").exists()
    assert project.stored == []


@pytest.mark.slow
def test_unseeded_fit_that_no_output_shows_fails(project, typed, small):
    """Everything is shown before the last fit, and only the graph's bytes tell."""
    fit = "import numpy as np\nnoise = np.random.rand(9)\n_ = open(f'{out}/model.onnx', 'wb').write(noise.tobytes())"
    project.replace_cells("eda.ipynb", WRITE_CONTRACT)
    project.replace_cells("train.ipynb", WRITE_MODEL, "print(seed)", fit)
    told = refused(typed(*small, kernels=True), 1)
    assert (
        "train.ipynb is not reproducible: model.onnx differed the second time, though every output was the same" in told
    )
    assert project.stored == []


@pytest.mark.medium
def test_scaler_outside_the_pipeline_is_rejected(project, typed, small):
    """The article's own fault: the notebook scales, the service does not, and every cell is content."""

    def scale(source):
        return source + (
            "\nscaler = StandardScaler().fit(X_train)"
            "\nX_train = pd.DataFrame(scaler.transform(X_train).astype('float32'), columns=X.columns)"
            "\nX_test = pd.DataFrame(scaler.transform(X_test).astype('float32'), columns=X.columns)"
        )

    project.edit_cell("train.ipynb", "X_train, X_test, y_train, y_test =", scale)
    project.edit_cell(
        "train.ipynb",
        "answers = graph.answer(",
        lambda source: source.replace("raw_records(table.frame[heldout])", "raw_records(X_test)").replace(
            "answer_with_estimator(pipeline, table.frame[heldout], contract)",
            "decode_answers(pipeline.predict_proba(X_test), contract)",
        ),
    )
    done = typed("--json", *small)
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert (result["verdict"], result["model"]) == ("rejected", None)
    assert any("the notebook judged something else than what would be served" in reason for reason in result["reasons"])
    assert result["metrics"]["accuracy"] < 0.9
    verdict = json.loads((project.runs[0] / "verdict.json").read_text())
    assert verdict["verdict"] == "rejected" and verdict["reasons"] == result["reasons"]
    assert project.stored == []


ONE_TREE = ["-p", "estimator=extra_trees", "-p", "n_estimators=1", "-p", "seed=1"]


@pytest.fixture
def defended(retrained, tmp_path) -> tuple[Project, str]:
    """A project with a champion in a store of its own, and the champion's tag."""
    return copy_of(retrained, tmp_path), retrained[1]["model"]


def test_worse_candidate_stays_in_its_run_and_the_champion_in_the_store(defended, retrained, typed):
    project, champion = defended
    score = retrained[1]["metrics"]["roc_auc"]
    rule = ["--promote-if", "better", "--min", "recall:malignant=0.999", "--min", "accuracy=0.5"]
    done = typed(*ONE_TREE, *rule)
    assert done.returncode == 3, done.stderr
    first, *lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("  FAILED     ")]
    assert " rejected in " in first and champion not in first and lines[: len(failed)] == failed
    assert failed[0].startswith("  FAILED     floor of recall:malignant (0.") and "below its floor 0.999" in failed[0]
    assert failed[1].startswith("  FAILED     better than the champion (-0.")
    assert f"against the champion's {score:.4f} on 113 held-out rows that neither trained on" in failed[1]
    assert "  passed     floor of accuracy (0." in done.stdout and "keeps the floor 0.5" in done.stdout
    assert f"  champion   {champion}\n" in done.stdout and project.stored == [champion]
    (run,) = project.runs
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["verdict"] == "rejected"
    assert [line.partition("): ")[2] for line in failed] == verdict["reasons"]


@pytest.mark.slow
def test_renamed_column_is_refused_by_name_then_allowed(renamed, retrained):
    project, champion, refusal, result = renamed[0], retrained[1]["model"], renamed[1]["refused"], renamed[1]["promoted"]
    assert refusal["status"] == 3, refusal["errors"]
    assert f"'mean radius' is gone and '{RENAMED}' is new: renamed?" in refusal["told"]
    assert f"champion   {champion}" in refusal["told"] and refusal["stored"] == [champion]
    assert sorted(path.name for path in project.runs[0].iterdir()) == sorted([*FILES, "renamed.csv"])
    assert (result["verdict"], result["champion_metrics"]) == ("promoted", None)
    assert project.stored == sorted([champion, result["model"]])
    checks = json.loads((project.runs[1] / "verdict.json").read_text())["checks"]
    told = {check["name"]: check["sentence"] for check in checks}
    assert "recorded score of other rows (unpaired)" in told["not worse than the champion"]
    assert told["callers of the champion"].startswith(
        "callers of the champion would break, which --allow-contract-change"
    )


@pytest.mark.slow
def test_failing_cell_is_named_and_the_notebook_kept(project, typed, small):
    project.replace_cells("eda.ipynb", WRITE_CONTRACT, "nothing_of_that_name")
    told = refused(typed(*small, kernels=True), 1)
    assert "eda.ipynb, cell [4] of 4, failed:" in told
    assert "NameError: name 'nothing_of_that_name' is not defined" in told
    listed = json.loads(typed("runs", "--json").stdout)
    assert [(run["verdict"], run["name"], run["score"]) for run in listed] == [("failed", "small", None)]
    assert listed[0]["error"] == "eda.ipynb, cell [4] of 4, failed: NameError: name 'nothing_of_that_name' is not defined"
    assert listed[0]["parameters"] == {"data": "small.csv", "target": "diagnosis", "estimator": "logistic_regression"}
    assert (project.runs[0] / "eda.ipynb").exists() and project.stored == []


@pytest.mark.slow
def test_eda_of_an_earlier_run_is_taken_over_named_and_proven_all_the_same(project, retrained, typed):
    copy = f"import shutil\nfor name in NAMES:\n    _ = shutil.copy(f'{retrained[1]['run']}/{{name}}', out)"
    project.replace_cells("eda.ipynb", copy.replace("NAMES", "['contract.json']"), "print(holdout)")
    files = ["contract.json", "model.onnx", "model.skops", "metrics.json"]
    project.replace_cells("train.ipynb", copy.replace("NAMES", str(files)), "print(seed)")
    first, second = (json.loads(typed("-p", f"seed={seed}", "--json", kernels=True).stdout) for seed in (1, 2))
    assert (first["verdict"], first["eda_from"]) == ("promoted", None)
    name = Path(first["run"]).name
    assert (second["verdict"], second["eda_from"], second["run"] != first["run"]) == ("unchanged", name, True)
    assert [notebook["cells_compared"] for notebook in second["notebooks"]] == [4, 4]
    for file in ("verdict.json", "provenance.json"):
        assert json.loads((project.runs[1] / file).read_text())["eda_from"] == name

    path = project.runs[1] / "eda.ipynb"
    path.write_text(path.read_text().replace('"0.2\\n"', '"0.3\\n"'))
    done = typed("-p", "seed=3", kernels=True)
    assert f"take over  eda.ipynb from run {project.runs[1].name}, executed there with the same inputs" in done.stderr
    assert done.returncode == 1 and "eda.ipynb is not reproducible: cell [4] gave another output" in done.stderr
    done = typed("-p", "seed=3", "--force", kernels=True)
    assert done.returncode == 0 and "taken over" not in done.stdout


# --- own data, and interruptions


@pytest.mark.medium
def test_file_with_odd_names_is_trained_named_and_kept_by_group(project, typed):
    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.iloc[:, :4].assign(outcome=bunch.target, patient=lambda table: table.index // 2)
    frame["size class"] = pd.cut(frame["mean radius"], 3, labels=["small", "middle", "large"]).astype(str)
    frame.to_csv(project.folder / "Own data.csv", index=False)
    options = ["--data", "Own data.csv", "--target", "outcome", "--split-by", "patient", "--json"]
    forest = ["-p", "estimator=random_forest", "-p", "n_estimators=10"]
    done = typed(*options, *forest, "-p", "tuning_iterations=2", "-p", "positive=0")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model"].startswith("own_data:")
    contract = json.loads((project.runs[0] / "contract.json").read_text())
    assert contract["target"] == {"name": "outcome", "classes": [0, 1], "positive": 0, "threshold": 0.5}
    assert {feature["name"]: feature["used"] for feature in contract["features"]}["patient"] is False
    assert "tuning 2 of 2: 0." in done.stderr
    assert typed("verify", "own_data").returncode == 0


@pytest.mark.medium
def test_table_of_texts_alone_is_trained(project, typed):
    rows = [
        f"{'red' if i % 3 else 'blue'},{'big' if i % 5 else 'small'},{'yes' if i % 3 and i > 9 else 'no'}\n"
        for i in range(200)
    ]
    (project.folder / "texts.csv").write_text("colour,size,y\n" + "".join(rows))
    done = typed("--data", "texts.csv", "--target", "y", "-p", "n_estimators=5", "-p", "min_association=0")
    assert done.returncode == 0, done.stderr


@pytest.mark.medium
def test_regression_is_recognised_and_scored(typed):
    done = typed("--target", "mean area", "--json", "--name", "area", "--min", "r2=0.9", *QUICK)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model"].startswith("area:") and result["metrics"].keys() == {"r2", "mae", "rmse"}
    assert typed("verify", "area").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_stops_everything_and_stores_nothing(project, sent):
    status, told, family = project.interrupt(*QUICK, sent=sent)
    assert status == 130 and "Traceback" not in told
    assert "pipeline.py: interrupted" in told
    verdict, where = find_ending(project.runs[0])
    assert verdict == "interrupted" and re.match(r"before eda.ipynb|eda.ipynb, cell \[\d+\] of \d+,", where)
    assert not psutil.wait_procs(family, timeout=15)[1]
    assert project.stored == []


def test_help_comes_before_anything_slow_is_imported():
    script = (
        "import sys, pipeline\n"
        "pipeline.main(['-p', 'estimater=x'])\n"
        "slow = {'papermill', 'bentoml', 'pandas', 'sklearn', 'onnxruntime', 'numpy', 'rich', 'tqdm'} & sys.modules.keys()\n"
        "pipeline.main(['runs'])\n"
        "slow |= {'papermill', 'bentoml', 'pandas', 'sklearn', 'onnxruntime', 'numpy'} & sys.modules.keys()\n"
        "pipeline.main(['--data', 'nowhere.csv', '--target', 'y'])\n"
        "slow |= {'sklearn', 'scipy', 'onnxruntime'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
