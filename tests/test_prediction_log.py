"""The prediction log: what a line holds, and that no disk, however bad, delays or fails an answer."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT, Serving, own_namespace
from test_predictor import store_model

from modeler.model.contract import used_features
from modeler.service import prediction_log
from modeler.service.body import BodyReader
from modeler.service.prediction_log import HOUR, PredictionLog, _write_lines
from modeler.service.predictor import Answer, Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(store_model(tmp_path_factory.mktemp("model"), "two"), 1000)


@pytest.fixture
def make(tmp_path):
    """Make a log in tmp_path/log, closed at the end; it and what it counted."""
    made = []

    def make_log(share=1.0, days=30, folder=tmp_path / "log"):
        counted = {"written": 0, "dropped": 0}

        def count(outcome, lines):
            counted[outcome] += lines

        made.append(PredictionLog(folder, share, days, count))
        return made[-1], counted

    yield make_log
    for log in made:
        log.close()


def rows_of(predictor):
    return predictor._model.read("golden.json")["rows"]


def ask(log, predictor, request_id="id", rows=None):
    return log.answer(predictor, request_id, json.dumps(rows or rows_of(predictor)).encode())


def await_count(counted, outcome, lines):
    deadline = time.monotonic() + 10
    while counted[outcome] < lines:
        assert time.monotonic() < deadline, counted
        time.sleep(0.01)


def read_lines(folder):
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_a_line_holds_the_request_the_used_columns_and_the_answer(predictor, make, tmp_path):
    log, counted = make()
    body = json.loads(ask(log, predictor).body)
    log.close()
    (path,) = (tmp_path / "log").iterdir()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d-.+-{os.getpid()}\.jsonl", path.name) and prediction_log.FILE.fullmatch(path.name)
    assert path.stat().st_mode & 0o777 == 0o640 and counted == {"written": 32, "dropped": 0}
    lines, used = read_lines(tmp_path / "log"), [feature["name"] for feature in used_features(predictor.contract)]
    for number, (line, row, given) in enumerate(zip(lines, rows_of(predictor), body["predictions"], strict=True)):
        told = {"request_id": "id", "row": number, "model": predictor.tag, "features": {name: row[name] for name in used}}
        given.pop("warnings")
        assert line == {"time": line["time"], **told, "answer": given}
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_logged_features_can_be_sent_again():
    about = {"used": True, "missing": True, "example": None}
    contract = {"target": {"name": "y"}, "features": [
        {"name": "price", "type": "number", "format": "$1,234.5", "min": 0.0, "max": 9000.0, **about},
        {"name": "paid", "type": "boolean", "format": ["No", "Yes"], **about},
        {"name": "day", "type": "date", "time": False, "format": "%d.%m.%Y", "min": "2025-01-01", "max": "2025-12-31", **about},
        {"name": "dropped", "type": "number", "used": False, "missing": True, "reason": "no signal"},
    ]}  # fmt: skip
    reader = BodyReader(contract, 10)
    sent = {"price": "$1,250.00", "paid": "yes", "day": "03.02.2025", "dropped": 7}
    rows = reader.read(json.dumps([sent, dict.fromkeys(sent)]).encode())
    predictor = SimpleNamespace(tag="made:1", used=["price", "paid", "day"])
    lines = _write_lines(predictor, "id", Answer(b"", 2, [], [], rows, [{"value": 1.0, "warnings": ["far"]}] * 2))
    first, second = (json.loads(line) for line in lines.splitlines())
    assert first["features"] == {"price": 1250.0, "paid": True, "day": "03.02.2025"} and first["answer"] == {"value": 1.0}
    assert reader.read(json.dumps(first["features"]).encode()) == [first["features"]]
    assert second["features"] == dict.fromkeys(predictor.used)


def test_share_is_of_requests_and_chosen_by_their_id(predictor, make, tmp_path):
    (log, _), (again, _) = make(0.3), make(0.3, folder=tmp_path / "again")
    for number in range(300):
        for one in (log, again):
            ask(one, predictor, f"id {number}", rows_of(predictor)[:2])
    log.close(), again.close()
    ids = [line["request_id"] for line in read_lines(tmp_path / "log")]
    assert 60 < len(set(ids)) < 120 and len(ids) == 2 * len(set(ids))
    assert ids == [line["request_id"] for line in read_lines(tmp_path / "again")]


def test_old_files_of_ours_are_removed_and_no_others(make, tmp_path):
    now, folder = datetime.now(timezone.utc), tmp_path / "log"
    folder.mkdir()
    old, new = (f"{now - timedelta(days):{HOUR}}" for days in (8, 6))
    kept = [f"{new}-host-7.jsonl", f"{old}-host-7.jsonl.gz", f"{old}.jsonl", "labels.csv", f"{old}-a b-7.jsonl"]
    for name in [*kept, f"{old}-my-host.lan-7.jsonl"]:
        (folder / name).write_text("{}\n")
    log, _ = make(days=7)
    log.close()
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_line_that_a_killed_process_of_this_number_broke_spoils_no_other(predictor, make, tmp_path):
    log, _ = make()
    paths = [tmp_path / "log" / f"{datetime.now(timezone.utc) + timedelta(hours=h):{HOUR}}-{log._process}.jsonl" for h in (0, 1)]
    paths[0].parent.mkdir(exist_ok=True)
    for path in paths:
        path.write_text('{"whole": 1}\n{"broken": ')
    ask(log, predictor)
    log.close()
    lines = max((path.read_text().splitlines() for path in paths), key=len)
    assert lines[:2] == ['{"whole": 1}', '{"broken": '] and len([json.loads(line) for line in lines[2:]]) == 32


@pytest.mark.medium
def test_missing_folder_fails_no_answer_and_is_taken_up_when_it_is_there(predictor, make, tmp_path, caplog):
    (tmp_path / "log").write_text("in the way")
    log, counted = make()
    assert ask(log, predictor).rows == 32
    await_count(counted, "dropped", 32)
    (tmp_path / "log").unlink()
    ask(log, predictor)
    await_count(counted, "written", 32)
    assert len(read_lines(tmp_path / "log")) == 32
    (told,) = {record.message for record in caplog.records}
    assert re.fullmatch("predictions are dropped from the log until it can be written: .*log: File exists", told)


def open_to_read(pipe):
    """A pipe to read from, if something was written into it."""
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    return handle if select.select([handle], [], [], 0)[0] else os.close(handle)


def test_disk_that_stands_still_delays_no_answer_and_fills_no_memory(predictor, make, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "LARGEST", 400_000)
    monkeypatch.setattr(prediction_log, "END_SECONDS", 0.3)
    (tmp_path / "log").mkdir()
    log, counted = make()
    now = datetime.now(timezone.utc)
    pipes = [tmp_path / "log" / f"{now + timedelta(hours=hours):{HOUR}}-{log._process}.jsonl" for hours in (0, 1)]
    for pipe in pipes:
        os.mkfifo(pipe)  # takes 64 KiB and then nothing until it is read
    slowest = 0.0
    for _ in range(100):
        started = time.perf_counter()
        assert ask(log, predictor).rows == 32
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 1 and counted["dropped"] > 1000 and log._size <= 400_000
    started = time.perf_counter()
    log.close()
    assert time.perf_counter() - started < 2, "a process could not end"
    written, reader = b"", next(filter(None, map(open_to_read, pipes)))
    while log._writer.is_alive():
        written += os.read(reader, 2**20) if select.select([reader], [], [], 0.1)[0] else b""
    assert all(json.loads(line) for line in written.splitlines()[:-1])


FILL = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from modeler.service.prediction_log import PredictionLog
from modeler.service.predictor import Answer

folder, counted = Path(sys.argv[1]), {"written": 0, "dropped": 0}
def count(outcome, lines): counted[outcome] += lines
answer = Answer(b"", 100, [], [], [{"x": "y" * 300}] * 100, [{"value": 1.0}] * 100)
predictor = SimpleNamespace(tag="made:1", used=["x"], answer=lambda body: answer)
log = PredictionLog(folder / "made", 1, 30, count)
ballast = folder / "ballast"
ballast.write_bytes(b"b" * 400_000)
def ask(until):
    while not until():
        log.answer(predictor, "id", b"")
        time.sleep(0.02)
ask(lambda: counted["dropped"])
ballast.unlink()
before = counted["written"]
ask(lambda: counted["written"] > before + 100)
log.close()
(path,) = (folder / "made").iterdir()
print(json.dumps({**counted, "lines": [json.loads(line)["row"] for line in path.read_bytes().splitlines()]}))
"""


@pytest.mark.medium
def test_full_disk_leaves_whole_lines_and_counts_the_others(tmp_path):
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "$@"'
    words = [*own_namespace(), "sh", "-c", mount, "sh", sys.executable, "-c", FILL, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["lines"]) == told["written"] > 1000 and told["dropped"] and set(told["lines"]) == set(range(100))
    assert "predictions are dropped from the log until it can be written" in done.stderr
    assert "No space left on device" in done.stderr


def test_killed_worker_breaks_at_most_one_line_and_a_stopped_one_none(retrained, tmp_path):
    """Also that every worker has a file of its own, and what the service says of the log and of the time."""
    rows = json.loads((retrained[0].runs[0] / "golden.json").read_text())["rows"]
    large, ended, answered = json.dumps(rows * 100).encode(), threading.Event(), []
    with Serving(retrained[0], tmp_path / "out", "workers=2", f"log={tmp_path}/log") as serving:
        since = json.loads(serving.ask("/model")[2])["since"]

        def ask_on():
            while not ended.is_set():
                try:
                    answered.append(serving.ask("/predict", large)[0])
                except OSError:  # of the killed worker
                    pass

        clients = [threading.Thread(target=ask_on) for _ in range(4)]
        for client in clients:
            client.start()
        folder, deadline = tmp_path / "log" / "breast_cancer", time.monotonic() + 30
        while len(files := [*folder.glob("*.jsonl")]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        killed = int(files[0].stem.rpartition("-")[2])
        psutil.Process(killed).send_signal(signal.SIGKILL)
        time.sleep(0.5)
        ended.set()
        for client in clients:
            client.join()
        status, _, _ = serving.ask("/predict", json.dumps(rows[0]).encode(), x_request_id="the-last-one")
        metrics = serving.ask("/metrics")[2].decode()
    assert set(answered) == {200} and status == 200
    assert datetime.now(timezone.utc) - datetime.fromisoformat(since) < timedelta(minutes=2)
    assert re.search(r'^bentoml_service_model_since_timestamp_seconds\{model="breast_cancer:\w+"\} 1[\d.]+$', metrics, re.M)
    assert re.search(r'^bentoml_service_prediction_log_lines_total\{outcome="written"\} [1-9]', metrics, re.M)
    broken, last = [], []
    for path in folder.glob("*.jsonl"):
        *whole, rest = path.read_bytes().split(b"\n")
        assert all(json.loads(line)["features"] for line in whole)
        broken += [path.name] if rest else []
        last += [line for line in whole if b'"the-last-one"' in line]
    assert len(last) == 1, "the last request before the end is not in the log"
    assert all(f"-{killed}." in name for name in broken)
