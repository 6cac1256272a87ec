"""The front as an ASGI application: what only a client that misbehaves, or a fault of ours, brings about."""

import asyncio
import json
import socket
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import pytest
from conftest import ROOT
from test_predictor import store_model

from modeler.service import intake
from modeler.service.front import Front
from modeler.service.predictor import Predictor
from modeler.service.telemetry import Metrics


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(store_model(tmp_path_factory.mktemp("model"), "two"), 1000)


def ask(predictor, messages, max_body=1_000_000, path="/predict", **headers):
    """Post a body that arrives in these messages; what is sent back, and the front's metrics."""
    service = SimpleNamespace(predictor=predictor)
    metrics = Metrics("made", "1")
    app = Front(None, lambda: service, metrics, max_body, 10)
    messages, sent = iter(messages), []

    async def receive():
        try:
            return next(messages)
        except StopIteration:
            await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
    asyncio.run(app(scope, receive, send))
    content = json.loads(sent[1]["body"]) if sent else None
    return (sent[0]["status"] if sent else None), content, metrics.expose().decode()


def part(body: bytes, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_body_in_parts_is_put_together(predictor):
    body = json.dumps(predictor._model.read("golden.json")["rows"][0]).encode()
    whole, in_parts = ask(predictor, [part(body)]), ask(predictor, [part(body[:30], True), part(body[30:])])
    assert whole[:2] == in_parts[:2] and whole[0] == 200


def test_body_that_does_not_arrive_in_time_is_a_408(predictor, monkeypatch):
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.05)
    status, answer, _ = ask(predictor, [part(b"[", True)])
    assert status == 408 and answer["error"] == "the body did not arrive within 0.05 seconds"


@pytest.mark.parametrize("declared", [True, False])
def test_body_beyond_the_limit_is_not_kept_in_memory(predictor, declared):
    parts = (part(b" " * 1_000_000, number < 99) for number in range(100))
    headers = {"content_length": "100000000"} if declared else {}
    tracemalloc.start()
    status, answer, _ = ask(predictor, parts, 5_000_000, **headers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 413 and answer["error"] == "the body is too large; send at most 5000000 bytes a request"
    assert peak < 12_000_000


def test_client_that_asks_first_is_refused_before_it_sends(predictor):
    def never():
        raise AssertionError("the body was asked for")
        yield

    status, answer, _ = ask(predictor, never(), content_length="2000000", expect="100-continue")
    assert status == 413 and answer["error"].startswith("the body is too large")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"content_length": "2000000"}, 413), ({"content_type": "text/plain"}, 415), ({"content_encoding": "br"}, 415)],
)
def test_request_refused_by_its_headers_is_not_waited_for(predictor, monkeypatch, headers, expected):
    monkeypatch.setattr(intake, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(intake, "BODY_SECONDS", 3600)
    assert ask(predictor, [part(b"[", True)], **headers)[0] == expected
    monkeypatch.setattr(intake, "DRAIN_SECONDS", 3600)
    assert ask(predictor, [part(b"[", True), part(b"]")], **headers)[0] == expected


def test_endless_body_is_given_up(predictor, monkeypatch):
    monkeypatch.setattr(intake, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(intake, "BODY_SECONDS", 3600)
    assert ask(predictor, [part(b"x" * 11, True)], 10)[0] == 413


def test_client_that_goes_away_is_counted_and_not_answered(predictor):
    status, _, metrics = ask(predictor, [part(b"[", True), {"type": "http.disconnect"}])
    assert status is None and 'http_response_code="499"' in metrics


def test_fault_of_ours_is_a_500_that_tells_no_value(predictor, monkeypatch, caplog):
    def fail(body):
        raise RuntimeError(f"could not convert string to float: {body}")

    monkeypatch.setattr(predictor, "answer", fail)
    status, answer, metrics = ask(predictor, [part(b'"name of a patient"')], x_request_id="mine")
    assert status == 500 and answer["error"] == "the request failed; the log tells more under its id, mine"
    assert "RuntimeError" in caplog.text and "in fail" in caplog.text and "patient" not in caplog.text
    assert 'http_response_code="500"' in metrics


def test_log_that_nobody_reads_is_no_reason_not_to_answer(predictor, monkeypatch):
    class Broken:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Broken())
    assert ask(predictor, [part(b"[]")])[0] == 400


def test_log_line_is_one_write_so_that_those_of_two_workers_do_not_mix():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    script = "from modeler.service.telemetry import write_log_line as write; write(rows=1); write(rows=2)"
    with ours, theirs:
        subprocess.run([sys.executable, "-u", "-c", script], stdout=theirs, cwd=ROOT, check=True)
        assert [json.loads(ours.recv(1000))["rows"] for _ in range(2)] == [1, 2]
