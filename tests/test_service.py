"""The service, as a real `bentoml serve` process."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT
from sklearn.datasets import load_breast_cancer

from modeler.data import load_table, split_rows


@pytest.fixture(scope="module")
def url(retrained, tmp_path_factory):
    project, _ = retrained
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("serve") / "log", "w+")
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.seek(0) or log.read()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def post(url, body):
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_held_out_rows_are_answered_one_at_a_time_as_the_notebook_scored_them(url, retrained):
    _, result = retrained
    table = load_table("breast_cancer")
    rows = table.frame[split_rows(table.frame, 0.2)]
    records = rows.drop(columns="diagnosis").to_dict("records")
    answers = [post(url, [record])[1]["predictions"][0] for record in records]
    right = sum(answer["label"] == truth for answer, truth in zip(answers, rows["diagnosis"]))
    assert right / len(rows) == pytest.approx(result["metrics"]["accuracy"])
    found = sum(answer["label"] == "malignant" == truth for answer, truth in zip(answers, rows["diagnosis"]))
    assert found / (rows["diagnosis"] == "malignant").sum() == pytest.approx(result["metrics"]["recall:malignant"])


def test_label_is_the_one_scikit_learn_gives_the_row(url):
    bunch = load_breast_cancer(as_frame=True)
    status, answer = post(url, bunch.data.to_dict("records"))
    assert status == 200
    expected = bunch.target_names[bunch.target]
    same = sum(given["label"] == label for given, label in zip(answer["predictions"], expected))
    assert same / len(expected) > 0.95


def test_answer_names_the_model_and_has_a_probability_for_each_class(url, retrained):
    project, result = retrained
    golden = json.loads((project.runs[0] / "golden.json").read_text())
    status, answer = post(url, golden["rows"])
    assert status == 200 and answer["model"] == result["model"]
    for given, expected in zip(answer["predictions"], golden["answers"], strict=True):
        assert given["label"] == expected["label"] and given["warnings"] == []
        assert given["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


def test_dropped_columns_may_be_left_out(url, retrained):
    project, _ = retrained
    contract = json.loads((project.runs[0] / "contract.json").read_text())
    golden = json.loads((project.runs[0] / "golden.json").read_text())
    used = {feature["name"] for feature in contract["features"] if feature["used"]}
    lean = [{name: value for name, value in row.items() if name in used} for row in golden["rows"]]
    assert post(url, lean) == post(url, golden["rows"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean radius": None}, "null, which training had none of"),
        ({"mean radius": "14.4"}, "must be a number"),
        ({"mean radius": True}, "must be a number"),
        ({"mean radius": float("nan")}, "must be a number"),
        ({"mean radius": 1e39}, "must be a number"),
        ({"mean radius": 10**400}, "must be a number"),
        ({"extra": float("nan")}, "unknown column"),
        ({"\ud800": "\ud800"}, "unknown column"),
        ({"mean radus": 1.0}, "unknown column; did you mean 'mean radius'?"),
    ],
)
def test_wrong_value_is_named(url, retrained, change, message):
    project, _ = retrained
    golden = json.loads((project.runs[0] / "golden.json").read_text())
    status, answer = post(url, [golden["rows"][0], golden["rows"][1] | change])
    assert status == 400
    assert [(fault["row"], fault["field"], fault["message"]) for fault in answer["detail"]] == [(1, *change, message)]


def test_missing_columns_and_rows_are_named(url):
    status, answer = post(url, [{}])
    assert status == 400 and len(answer["detail"]) == 25
    assert {fault["message"] for fault in answer["detail"]} == {"missing column"}
    assert post(url, [])[0] == 400


def test_service_without_a_model_says_how_to_make_one(project):
    command = [sys.executable, "-m", "bentoml", "serve", "--port", "0"]
    settings = {
        "cwd": project.folder,
        "env": project.environment,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    process = subprocess.Popen(command, **settings, text=True, start_new_session=True)
    try:
        sentence = "there is no model breast_cancer in the store"
        (told,) = [line for line in itertools.islice(process.stdout, 200) if sentence in line][:1]
        assert "`python pipeline.py` makes breast_cancer" in told
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # BentoML starts the worker again and again
        process.wait()


def test_snippet_of_readme_posts_one_row(url):
    snippet = (ROOT / "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    *lines, request = snippet.strip().replace("http://localhost:3000", url).splitlines()
    scope = {}
    exec("\n".join(lines), scope)
    answer = eval(request, scope)
    assert answer["model"].startswith("breast_cancer:")
    assert [given["label"] for given in answer["predictions"]] == [
        scope["load_table"]("breast_cancer").frame["diagnosis"][0]
    ]
