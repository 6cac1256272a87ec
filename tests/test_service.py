"""The service, as a real `bentoml serve` process asked over HTTP."""

import copy
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import bentoml
import psutil
import pytest
from conftest import RENAMED, Serving, alter, copy_of, elsewhere, read_examples
from sklearn.datasets import load_breast_cancer

from modeler.data.rows import split_rows
from modeler.data.tables import load_table
from modeler.service.access import make_key
from modeler.service.body import write_forms
from modeler.service.pages import NOTEBOOKS


@pytest.fixture(scope="module")
def service(retrained, tmp_path_factory):
    with Serving(retrained[0], tmp_path_factory.mktemp("serve") / "log", "max_body=9000000") as serving:
        yield serving


@pytest.fixture(scope="module")
def golden(retrained):
    return json.loads((retrained[0].runs[0] / "golden.json").read_text())


@pytest.fixture(scope="module")
def row(golden):
    return golden["rows"][0]


# What it answers


def test_held_out_rows_are_answered_one_at_a_time_as_the_notebook_scored_them(service, retrained):
    _, result = retrained
    table = load_table("breast_cancer")
    rows = table.frame[split_rows(table.frame, 0.2)]
    records = rows.drop(columns="diagnosis").to_dict("records")
    answers = [service.predict(record)[1]["predictions"][0] for record in records]
    right = sum(answer["label"] == truth for answer, truth in zip(answers, rows["diagnosis"]))
    assert right / len(rows) == pytest.approx(result["metrics"]["accuracy"])
    found = sum(answer["label"] == "malignant" == truth for answer, truth in zip(answers, rows["diagnosis"]))
    assert found / (rows["diagnosis"] == "malignant").sum() == pytest.approx(result["metrics"]["recall:malignant"])


def test_label_is_the_one_scikit_learn_gives_the_row(service):
    bunch = load_breast_cancer(as_frame=True)
    status, answer = service.predict(bunch.data.to_dict("records"))
    assert status == 200
    expected = bunch.target_names[bunch.target]
    same = sum(given["label"] == label for given, label in zip(answer["predictions"], expected, strict=True))
    assert same / len(expected) > 0.95


def test_answer_names_the_model_and_has_a_probability_for_each_class(service, retrained, golden):
    status, answer = service.predict(golden["rows"])
    assert status == 200 and answer["model"] == retrained[1]["model"]
    for given, expected in zip(answer["predictions"], golden["answers"], strict=True):
        assert given["label"] == expected["label"]
        assert given["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


@pytest.mark.parametrize("form", ["records", "columns", "indexed columns"])
def test_every_form_has_the_same_answer(service, golden, form):
    assert service.predict(write_forms(golden["rows"])[form]) == service.predict(golden["rows"])


def test_request_of_the_article_is_answered(service, row):
    body = load_table("breast_cancer").frame.drop(columns="diagnosis").head(2).to_json()
    status, answer = service.predict(body.encode())
    assert status == 200 and [given["label"] for given in answer["predictions"]] == ["malignant", "malignant"]


def test_row_alone_is_answered_as_in_a_batch_and_order_is_kept(service, golden):
    together = service.predict(golden["rows"])[1]["predictions"]
    alone = [service.predict(row)[1]["predictions"][0] for row in golden["rows"]]
    assert [given["label"] for given in alone] == [given["label"] for given in together]
    for ours, theirs in zip(alone, together):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)
    assert service.predict(golden["rows"][::-1])[1]["predictions"] == together[::-1]


def test_dropped_columns_may_be_left_out(service, retrained, golden):
    contract = json.loads((retrained[0].runs[0] / "contract.json").read_text())
    used = {feature["name"] for feature in contract["features"] if feature["used"]}
    lean = [{name: value for name, value in row.items() if name in used} for row in golden["rows"]]
    assert service.predict(lean) == service.predict(golden["rows"])


def test_ten_thousand_rows_are_answered_and_no_more(service, row):
    lean = {name: round(value, 1) for name, value in row.items()}
    status, answer = service.predict(write_forms([lean] * 10_000)["columns"])
    assert status == 200 and len(answer["predictions"]) == 10_000
    status, answer = service.predict(write_forms([lean] * 10_001)["columns"])
    assert status == 413 and answer["error"] == "10001 rows are too many; send at most 10000 a request"


def test_value_outside_the_training_range_is_answered_with_a_warning(service, row):
    status, answer = service.predict([row, row | {"mean radius": 100}])
    assert status == 200 and answer["predictions"][0]["warnings"] == []
    assert answer["predictions"][1]["warnings"] == ["mean radius 100 is outside the training range 6.981 to 28.11"]


def test_bentoml_client_is_answered(service, golden):
    with bentoml.SyncHTTPClient(service.url) as client:
        assert client.predict(golden["rows"]) == service.predict(golden["rows"])[1]


def test_snippet_of_readme_posts_one_row(service):
    snippet, _ = read_examples("README.md", "python")
    *lines, request = snippet.strip().replace("http://localhost:3000", service.url).splitlines()
    scope = {}
    exec("\n".join(lines), scope)
    answer = eval(request, scope)
    assert answer["model"].startswith("breast_cancer:")
    assert [given["label"] for given in answer["predictions"]] == [
        scope["load_table"]("breast_cancer").frame["diagnosis"][0]
    ]
    (shown,) = (json.loads(block) for block in read_examples("README.md", "json"))
    (told,), (given,) = shown["predictions"], answer["predictions"]
    assert told | {"probabilities": {}} == given | {"probabilities": {}}
    assert told["probabilities"] == pytest.approx(given["probabilities"], abs=0.05)  # another platform, another forest


def test_error_of_the_docs_is_what_is_answered(service, row):
    (block,) = [block for block in read_examples("docs/serve.md", "json") if "error" in block]
    expected = json.loads(block)
    (fault,) = expected["detail"]
    assert service.predict(row | {fault["field"]: fault["value"]}) == (400, expected)


# What it refuses

RADIUS = "must be a number; in training 6.981 to 28.11"
FINITE = "must be a finite number; in training 6.981 to 28.11"
FLOAT32 = "must be a number between -3.4e+38 and 3.4e+38, which is what a float32 holds"
RECORD = "a row must be an object from column name to value"
FORM = "the body must be a list of records, one record or an object of columns"
NO_ROWS = "there are no rows; send at least one"
NOT_JSON = "the body cannot be read as JSON in UTF-8: "
NOTHING = "there is nothing at this path"


def swap(row, name="mean radius", text="1"):
    """A record with one value written by hand."""
    return json.dumps([row | {name: "@@"}]).replace('"@@"', text).encode()


WRONG_BODIES = [
    # body made from a right row, status, row, field, message
    (lambda row: swap(row, text='"14.4"'), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text='""'), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text="true"), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text="false"), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text="null"), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text="[14.4]"), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text='{"0": 14.4}'), 400, 0, "mean radius", RADIUS),
    (lambda row: swap(row, text="NaN"), 400, 0, "mean radius", FINITE),
    (lambda row: swap(row, text="Infinity"), 400, 0, "mean radius", FINITE),
    (lambda row: swap(row, text="-Infinity"), 400, 0, "mean radius", FINITE),
    (lambda row: swap(row, text="1e999"), 400, 0, "mean radius", FINITE),
    (lambda row: swap(row, text="1e39"), 400, 0, "mean radius", FLOAT32),
    (lambda row: swap(row, text="-1e39"), 400, 0, "mean radius", FLOAT32),
    (lambda row: swap(row, text="1" + "0" * 400), 400, 0, "mean radius", FLOAT32),
    (lambda row: swap(row, text="1" * 5000), 400, None, None, NOT_JSON + "number out of range"),
    (lambda row: swap(row, text="01"), 400, None, None, NOT_JSON),
    (lambda row: swap(row, text="0x1F"), 400, None, None, NOT_JSON),
    (lambda row: swap(row, text="'14'"), 400, None, None, NOT_JSON),
    (lambda row: swap(row, text="14,4"), 400, None, None, NOT_JSON),
    (lambda row: swap(row, "extra"), 400, 0, "extra", "unknown column"),
    (lambda row: swap(row, "mean radus"), 400, 0, "mean radus", "unknown column (did you mean 'mean radius'?)"),
    (lambda row: swap(row, "Mean Radius"), 400, 0, "Mean Radius", "unknown column (did you mean 'mean radius'?)"),
    (lambda row: swap(row, ""), 400, 0, "", "unknown column"),
    (
        lambda row: swap(row, "diagnosis"),
        400,
        0,
        "diagnosis",
        "this is the column that the model predicts; leave it out",
    ),
    (
        lambda row: [row, {n: v for n, v in row.items() if n != "mean radius"}],
        400,
        1,
        "mean radius",
        "missing; it must be a number",
    ),
    (lambda row: [row, row, 5], 400, 2, None, RECORD),
    (lambda row: [row, None], 400, 1, None, RECORD),
    (lambda row: [[*row.values()]], 400, 0, None, RECORD),
    (lambda row: [row, [row]], 400, 1, None, RECORD),
    (lambda row: {"rows": [row]}, 400, None, None, None),
    (lambda row: {"data": row}, 400, None, None, None),
    (lambda row: [], 400, None, None, NO_ROWS),
    (lambda row: dict.fromkeys(row, []), 400, None, None, NO_ROWS),
    (lambda row: dict.fromkeys(row, {}), 400, None, None, NO_ROWS),
    (
        lambda row: write_forms([row, row])["columns"] | {"mean radius": [14.4]},
        400,
        1,
        "mean radius",
        "missing; it must be a number",
    ),
    (
        lambda row: write_forms([row, row])["columns"] | {"mean radius": 14.4},
        400,
        None,
        "mean radius",
        "must be a list",
    ),
    (
        lambda row: write_forms([row])["indexed columns"] | {"mean texture": {"7": 1}},
        400,
        0,
        "mean texture",
        "missing; it must be a number",
    ),
    (lambda row: {}, 400, 0, "mean radius", "missing; it must be a number"),
    (lambda row: 5, 400, None, None, FORM),
    (lambda row: "text", 400, None, None, FORM),
    (lambda row: None, 400, None, None, FORM),
    (lambda row: True, 400, None, None, FORM),
    (lambda row: b"", 400, None, None, "the body is empty; send rows as JSON"),
    (lambda row: b" \n", 400, None, None, "the body is empty; send rows as JSON"),
    (lambda row: b"\xef\xbb\xbf[]", 400, None, None, NOT_JSON),
    (lambda row: b"mean radius=14", 400, None, None, NOT_JSON),
    (lambda row: json.dumps([row])[:-1].encode(), 400, None, None, NOT_JSON),
    (lambda row: json.dumps([row]).encode() + b"x", 400, None, None, NOT_JSON),
    (lambda row: b'[{"mean radius": "\xff"}]', 400, None, None, NOT_JSON),
    (lambda row: b'[{"\\ud800": 1}]', 400, None, None, NOT_JSON),
    (lambda row: json.dumps([row]).encode("utf-16"), 400, None, None, NOT_JSON),
    (lambda row: b"[" * 100_000, 400, None, None, NOT_JSON + "recursion limit exceeded"),
    (lambda row: b" " * 9_000_001, 413, None, None, "the body is too large; send at most 9000000 bytes a request"),
]


@pytest.mark.parametrize(("make", "status", "row_number", "field", "message"), WRONG_BODIES)
def test_wrong_body_is_answered_with_its_fault(service, row, make, status, row_number, field, message):
    given, answer = service.predict(make(row))
    assert given == status and answer.keys() == {"error", "detail"} and answer["error"]
    for fault in answer["detail"]:
        assert fault.keys() == {"row", "field", "message", "value"}
    if message:
        fault = answer["detail"][0]
        assert (fault["row"], fault["field"]) == (row_number, field)
        assert fault["message"].startswith(message)


@pytest.mark.parametrize(
    ("path", "asked", "status", "message"),
    [
        ("/predict", {"method": "GET"}, 405, "/predict answers POST only"),
        ("/predict", {"method": "PUT", "body": b"[]"}, 405, "/predict answers POST only"),
        ("/predict", {"method": "DELETE"}, 405, "/predict answers POST only"),
        ("/model", {"method": "POST", "body": b"{}"}, 405, "/model answers GET and HEAD only"),
        ("/livez", {"method": "POST", "body": b"{}"}, 405, "/livez answers GET and HEAD only"),
        ("/metrics", {"method": "PATCH", "body": b"{}"}, 405, "/metrics answers GET and HEAD only"),
        ("/predict/", {"body": b"[]"}, 404, f"{NOTHING} (did you mean '/predict'?)"),
        ("/predit", {"body": b"[]"}, 404, f"{NOTHING} (did you mean '/predict'?)"),
        ("/", {"method": "POST", "body": b"[]"}, 405, "/ answers GET and HEAD only"),
        ("/notebooks/secret", {}, 404, NOTHING),
        ("/notebooks/../../etc/passwd", {}, 404, NOTHING),
        ("/static_content/nothing.js", {}, 404, NOTHING),
        ("/static_content/%2e%2e/%2e%2e/containers.py", {}, 404, NOTHING),
        ("/%00%ff", {}, 404, NOTHING),
        (
            "/predict",
            {"body": b"[]", "content_type": "text/plain"},
            415,
            "the body must be JSON in UTF-8: send the header",
        ),
        (
            "/predict",
            {"body": b"a=1", "content_type": "application/x-www-form-urlencoded"},
            415,
            "the body must be JSON",
        ),
        ("/predict", {"body": b"x", "content_type": "application/vnd.bentoml+pickle"}, 415, "the body must be JSON"),
        (
            "/predict",
            {"body": b"[]", "content_type": "application/json; charset=latin-1"},
            415,
            "the body must be JSON",
        ),
        ("/predict", {"body": b"[]", "content_encoding": "gzip"}, 415, "the body must not be compressed"),
    ],
)
def test_wrong_request_is_answered_in_the_same_shape(service, path, asked, status, message):
    given, headers, body = service.ask(path, **asked)
    answer = json.loads(body)
    assert given == status and answer["error"].startswith(message)
    assert answer["detail"] == [
        {"row": None, "field": None, "message": answer["error"], "value": answer["detail"][0]["value"]}
    ]
    assert headers["content-type"] == "application/json"
    assert (headers["allow"] is not None) == (status == 405)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"; v=1',
        "application/vnd.api+json",
    ],
)
def test_json_by_its_other_names_is_taken(service, row, kind):
    assert service.ask("/predict", json.dumps(row).encode(), content_type=kind)[0] == 200


def test_web_socket_is_answered_in_the_same_shape(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    connection.request("GET", "/predict", headers=headers | {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="})
    answer = connection.getresponse()
    assert answer.status == 400 and json.load(answer)["error"].startswith("this is no WebSocket")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"BREW /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: some\r\n\r\n[]",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_in_the_same_shape(service, sent):
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
        assert answer.status == 400 and answer.headers["content-type"] == "application/json"
        assert connection.recv(100) == b""
    message = "this is no HTTP request that can be read"
    assert json.loads(body) == {
        "error": message,
        "detail": [{"row": None, "field": None, "message": message, "value": None}],
    }
    (line,) = [line for line in service.log_lines if line["request_id"] == answer.headers["x-request-id"]]
    assert line["status"] == 400 and line["model"].startswith("breast_cancer:")


@pytest.mark.slow
def test_large_requests_beside_small_ones_change_none(service, golden, row):
    large = json.dumps(write_forms([{name: round(value, 1) for name, value in row.items()}] * 8000)["columns"]).encode()
    wrong = json.dumps([{f"x{n}": n for n in range(100_000)}]).encode()
    expected = [service.predict(body) for body in (golden["rows"], large, wrong)]
    assert [status for status, _ in expected] == [200, 200, 400]
    with ThreadPoolExecutor(8) as threads:
        bodies = [golden["rows"], golden["rows"], large, golden["rows"], wrong] * 8
        answers = list(threads.map(service.predict, bodies))
    assert answers == [expected[0], expected[0], expected[1], expected[0], expected[2]] * 8


def test_body_without_length_is_refused_when_it_grows_too_large(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    part = b" " * 1_000_000
    connection.request("POST", "/predict", iter([part] * 10), {"content-type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413 and json.load(answer)["error"].startswith("the body is too large")


def test_wrong_requests_beside_good_ones_harm_none(service, golden, row):
    expected = service.predict(golden["rows"])
    wrong = [make(row) for make, *_ in WRONG_BODIES[:40]]

    def ask(number):
        return service.predict(wrong[number // 2 % 40] if number % 2 else golden["rows"])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(400)))
    assert all(answer == expected for answer in answers[::2])
    assert {status for status, _ in answers[1::2]} == {400}


SCHEMATHESIS = """
seed = 1
[generation]
max-examples = 60
[checks]
negative_data_rejection.expected-statuses = ["400", "405", "413", "415"]
# A schema cannot say that columns are of one length, so not all that fits it is accepted.
positive_data_acceptance.enabled = false
"""


@pytest.mark.slow
def test_no_request_made_from_the_openapi_document_is_answered_with_a_5xx(service, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    run = "import sys; from schemathesis.cli import schemathesis as main; main(['run', sys.argv[1], '--no-color'])"
    done = subprocess.run(
        [sys.executable, "-c", run, f"{service.url}/docs.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "Tested: 10" in done.stdout


# What it says about itself


def test_openapi_describes_every_column_and_its_example_works(service, retrained):
    document = json.loads(service.ask("/docs.json")[2])
    contract = json.loads((retrained[0].runs[0] / "contract.json").read_text())
    columns = document["components"]["schemas"]["Row"]["properties"]
    for feature in contract["features"]:
        column = columns[feature["name"]]
        if feature["used"]:
            told = f"a number; in training {feature['min']:.10g} to {feature['max']:.10g}"
            assert column["type"] == "number" and column["description"] == told
            assert column["examples"] == [feature["example"]]
        else:
            assert column["description"] == f"a number in training, not used ({feature['reason']}); may be left out"
    required = document["components"]["schemas"]["Row"]["required"]
    assert sorted(required) == sorted(feature["name"] for feature in contract["features"] if feature["used"])
    examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    answers = [service.predict(example["value"]) for example in examples.values()]
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers) and answers[0][0] == 200
    responses = document["paths"]["/predict"]["post"]["responses"]
    assert responses["200"]["content"]["application/json"]["example"] == answers[0][1]
    label = document["components"]["schemas"]["Answer"]["properties"]["label"]
    assert label["enum"] == contract["target"]["classes"]
    assert {*document["paths"]} == {
        "/predict", "/explain", "/model", "/examples", "/card", "/notebooks/eda", "/notebooks/train", "/livez", "/readyz", "/metrics"
    }  # fmt: skip


def test_model_tells_what_answers(service, retrained):
    project, result = retrained
    model = json.loads(service.ask("/model")[2])
    run, since = project.runs[0], model.pop("since")
    assert datetime.now(timezone.utc) - datetime.fromisoformat(since) < timedelta(hours=1)
    assert model == {
        "tag": result["model"],
        **{
            name: json.loads((run / f"{name}.json").read_text())
            for name in ("contract", "metrics", "provenance", "verdict", "reference")
        },
        "warnings": [],
    }


@pytest.mark.parametrize("page", ["/", "/docs", *(f"/notebooks/{name}" for name in NOTEBOOKS)])
def test_page_loads_nothing_from_outside(service, retrained, page):
    status, headers, body = service.ask(page)
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    text = body.decode()
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']([^"']+)""", text)
    assert all(address.startswith(("static_content/", "page/", "data:")) for address in loaded)
    assert "default-src 'none'" in headers["content-security-policy"]
    for address in loaded:
        assert address.startswith("data:") or service.ask(f"/{address}")[0] == 200
    if page.startswith("/notebooks"):
        assert text == (retrained[0].runs[0] / f"{page.rpartition('/')[2]}.html").read_text("utf-8")


def test_head_is_answered_without_a_body(service):
    status, headers, body = service.ask("/model", method="HEAD")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 1000


def metrics(service) -> dict[str, float]:
    lines = service.ask("/metrics")[2].decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_metrics_count_predictions_by_label_and_warnings_by_kind(service, retrained, golden, row):
    tag = retrained[1]["model"]
    before = metrics(service)
    answers = service.predict(golden["rows"])[1]["predictions"]
    answers += service.predict([row | {"mean radius": 100, "mean texture": 100}])[1]["predictions"]
    service.predict([])
    after = metrics(service)

    def grown(name):
        return after[name] - before.get(name, 0)

    for label in ("benign", "malignant"):
        shown = sum(answer["label"] == label for answer in answers)
        assert shown and grown(f'bentoml_service_predictions_total{{label="{label}",model="{tag}"}}') == shown
    shown = sum(len(answer["warnings"]) for answer in answers)
    assert (
        shown >= 2
        and grown(f'bentoml_service_prediction_warnings_total{{kind="outside_range",model="{tag}"}}') == shown
    )
    whose = 'runner_name="breast_cancer",service_name="breast_cancer",service_version="not available"'
    requests = 'bentoml_service_request_total{{endpoint="/predict",http_response_code="{}",{}}}'
    assert grown(requests.format(200, whose)) == 2 and grown(requests.format(400, whose)) == 1


@pytest.mark.slow
def test_metrics_are_those_of_all_workers_of_this_server_alone(retrained, row, tmp_path):
    with Serving(retrained[0], tmp_path / "log", "workers=2") as serving:
        with Serving(retrained[0], tmp_path / "other"):
            for _ in range(30):
                assert serving.predict(row)[0] == 200
                time.sleep(0.01)
        counted = [metrics(serving) for _ in range(5)]
    tag = retrained[1]["model"]
    name = f'bentoml_service_predictions_total{{label="malignant",model="{tag}"}}'
    assert [part[name] for part in counted] == [30] * 5


def test_metrics_do_not_grow_by_paths_that_do_not_exist(service):
    service.ask("/nothing")
    before = len(metrics(service))
    for number in range(50):
        service.ask(f"/nothing{number}")
    assert len(metrics(service)) == before


def test_request_is_one_log_line_without_any_of_its_values(service, row):
    secret = {"mean radius": 12.3456789, "mean texture": "name of a patient"}
    service.ask("/predict", json.dumps([row, row | {"mean radius": 12.3456789}]).encode(), x_request_id="mine-1")
    service.ask("/predict", json.dumps([row | secret]).encode(), x_request_id="mine-2")
    service.ask("/name%20of%20a%20patient?radius=12.3456789", x_request_id="mine-3")
    deadline, lines = time.monotonic() + 10, []
    while len(lines) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)  # a line is written after its answer
        lines = [line for line in service.log_lines if line["request_id"].startswith("mine-")]
    assert [(line["request_id"], line["rows"], line["status"]) for line in lines] == [
        ("mine-1", 2, 200),
        ("mine-2", None, 400),
        ("mine-3", None, 404),
    ]
    for line in lines:
        assert {"time", "request_id", "model", "rows", "status", "milliseconds"} <= line.keys()
        assert "12.34" not in json.dumps(line) and "patient" not in json.dumps(line)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("a b", False), ("x" * 129, False), ("é", False), ("", False)],
)
def test_request_id_of_the_caller_or_a_new_one_comes_back(service, given, kept):
    ids = {service.ask("/livez", x_request_id=given.encode("latin-1"))[1]["x-request-id"] for _ in range(2)}
    assert ids == {given} if kept else len(ids) == 2 and all(re.fullmatch("[0-9a-f]{16}", new) for new in ids)


# Whether it starts, and how it ends


@pytest.mark.slow
def test_renamed_column_is_followed_by_api_documents_examples_and_errors(renamed, tmp_path):
    project, before = renamed[0], load_table("breast_cancer").frame
    with Serving(project, tmp_path / "log") as serving:
        document = json.loads(serving.ask("/docs.json")[2])
        assert RENAMED in document["components"]["schemas"]["Row"]["properties"]
        examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        example = examples["one record"]["value"]
        assert example[RENAMED] == before["mean radius"][0] and serving.predict(example)[0] == 200
        _, answer = serving.predict(example | {"Größe (µm)": 1})
        assert answer["detail"][0]["message"] == f"unknown column (did you mean '{RENAMED}'?)"
        done = project.retrain("verify", "--url", serving.url)
        assert done.returncode == 0 and "32 golden rows" in done.stdout, done.stderr


def damage_graph(model):
    path = model / "model.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def change_contract(model):
    path = model / "contract.json"
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.9'))


def change_golden(model):
    golden = json.loads((model / "golden.json").read_text())
    golden["answers"][0]["label"], golden["answers"][0]["probabilities"] = "benign", {"benign": 1.0, "malignant": 0.0}
    (model / "golden.json").write_text(json.dumps(golden))


def break_golden(model):
    (model / "golden.json").write_text('{"rows": [1, 2], "answers": []}')


def remove_golden(model):
    (model / "golden.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_graph, "was changed after it was stored"),
        (change_contract, "was changed after it was stored"),
        (change_golden, "differs from its golden rows"),
        (break_golden, "cannot answer its golden rows"),
        (remove_golden, "has no readable golden.json"),
    ],
)
def test_damaged_store_entry_is_a_503_with_the_reason(retrained, row, tmp_path, damage, reason):
    project = copy_of(retrained, tmp_path)
    damage(project.store / "models" / retrained[1]["model"].replace(":", "/"))
    with Serving(project, tmp_path / "log") as serving:
        for path, body in (
            ("/readyz", None),
            ("/predict", json.dumps(row).encode()),
            ("/model", None),
            ("/docs.json", None),
        ):
            status, _, answer = serving.ask(path, body)
            assert status == 503 and reason in json.loads(answer)["error"]
        assert serving.ask("/livez")[0] == 200
        told = project.retrain("verify", "--url", serving.url)
        assert told.returncode == 1 and reason in told.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no model breast_cancer in the store .*; `bentoml models list` shows what there is, and `python pipeline.py` makes one"),
        (["model=orders"], "there is no model orders in .*`python pipeline.py --data FILE --target COLUMN --name orders` makes one"),
        (["model=No Such"], "model\n  String should match pattern"),
        (["modl=x"], "modl\n  Extra inputs are not permitted"),
        (["max_rows=none"], "max_rows\n  Input should be a valid integer"),
        (["keys=none"], "the key file none cannot be read: No such file or directory; `python pipeline.py key NAME` makes"),
        (["origins=example.org"], "--arg origins=example.org: 'example.org' is no origin; write each as a browser sends it"),
    ],
)  # fmt: skip
def test_service_that_cannot_start_says_why_and_ends(project, arguments, sentence):
    words = [word for argument in arguments for word in ("--arg", argument)]
    done = project.command("-m", "bentoml", "serve", "--port", "0", *words, timeout=60)
    assert done.returncode == 1 and re.search(sentence, done.stderr) and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "told"), [(1, os.killpg), (2, os.kill)])  # all processes as by systemd, or the parent
def test_sigterm_lets_requests_in_flight_finish(retrained, row, tmp_path, workers, told):
    body = json.dumps(row).encode()
    with Serving(retrained[0], tmp_path / "log", f"workers={workers}") as serving:
        begun = socket.create_connection(("127.0.0.1", serving.port), timeout=30)
        begun.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:50]
        )
        lost, clients = [], ThreadPoolExecutor(12)
        asking = [clients.submit(ask_until_told_to_close, serving, body, lost) for _ in range(12)]
        time.sleep(0.5)
        told(serving.process.pid, signal.SIGTERM)
        assert [client.result(30) for client in asking] == [True] * 12, lost  # told, not cut off
        await_refusal(serving)
        begun.sendall(body[50:])
        answer = b""
        while part := begun.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK") and b'"label":"malignant"' in answer
        assert serving.process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("on_linux", [True, False])
def test_workers_end_with_their_killed_parent_and_the_port_is_free_again(retrained, tmp_path, on_linux):
    """Else they answered with the model of then, and the next `bentoml serve` found the port taken."""
    project = copy.copy(retrained[0])
    project.settings = elsewhere(tmp_path, on_linux)
    with Serving(project, tmp_path / "log", "workers=2") as serving:
        workers = psutil.Process(serving.process.pid).children()
        assert len(workers) == 2
        serving.process.kill()
        assert not psutil.wait_procs(workers, timeout=10)[1]
        socket.create_server(("127.0.0.1", serving.port)).close()


@pytest.mark.slow
@pytest.mark.parametrize("on_linux", [True, False])
def test_workers_end_with_a_parent_that_is_killed_while_they_start(retrained, tmp_path, on_linux):
    project = copy.copy(retrained[0])
    project.settings = elsewhere(tmp_path, on_linux)
    serving = Serving(project, tmp_path / "log", "workers=2")
    parent, workers = psutil.Process(serving.process.pid), []
    while len(workers) < 2 and serving.process.poll() is None:
        workers = parent.children()
    serving.process.kill()
    serving.process.wait()
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=20)[1]


def ask_until_told_to_close(serving, body, lost) -> bool:
    """Ask on one connection, without a pause, until an answer ends it; False if a request was lost before."""
    kept = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=30)
    try:
        while True:
            kept.request("POST", "/predict", body, {"content-type": "application/json"})
            answer = kept.getresponse()
            assert answer.status == 200 and answer.read()
            if answer.getheader("connection") == "close":
                return True
    except (AssertionError, OSError, http.client.HTTPException) as error:
        lost.append(repr(error))
        return False
    finally:
        kept.close()


def await_refusal(serving):
    """Return when no new connection is taken any more; until then they are answered, or reset."""
    deadline = time.monotonic() + 8  # below the grace, so that the end of the service is not taken for a refusal
    while time.monotonic() < deadline:
        try:
            late = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=8)
            late.request("GET", "/livez")
            late.getresponse().read()
        except ConnectionRefusedError:
            return
        except (ConnectionError, http.client.RemoteDisconnected):
            pass
        finally:
            late.close()
    pytest.fail("new connections were made for 8 seconds after SIGTERM")


@pytest.mark.slow
def test_sigterm_waits_no_longer_than_the_grace(retrained, tmp_path):
    with Serving(retrained[0], tmp_path / "log", "grace=1") as serving:
        begun = socket.create_connection(("127.0.0.1", serving.port), timeout=30)
        begun.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n[")
        time.sleep(0.5)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(15) == 0
        assert begun.recv(100) == b""


# Another champion


def await_workers(serving, number) -> set[int]:
    """The ids of the worker processes, as soon as there are so many."""
    deadline, workers = time.monotonic() + 60, set()
    while len(workers) < number:
        assert time.monotonic() < deadline and serving.process.poll() is None
        try:
            workers = {worker.pid for worker in serving.workers}
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.01)
    return workers


def ask_on_and_on(serving, body, keeps, answered, failed, ended):
    """Ask until ended, on one connection or on a new one each time; note the model or the error of each answer."""
    connection = None
    while not ended.is_set():
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
            connection.request("POST", "/predict", body, {"content-type": "application/json"} | serving.headers)
            answer = connection.getresponse()
            answered.append(json.loads(answer.read())["model"])
            assert answer.status == 200
        except Exception as error:
            failed.append(repr(error))
            keeps = False
        if not keeps:
            connection = connection.close()
        time.sleep(0.005)


@pytest.mark.slow
def test_sighup_takes_up_another_champion_and_other_keys_and_loses_no_request(retrained, row, tmp_path):
    project, first = copy_of(retrained, tmp_path), retrained[1]["model"]
    key_file, (key, line), (later, another) = tmp_path / "keys", make_key("shop"), make_key("later")
    key_file.write_text(line)
    run, second = alter(Path(shutil.copytree(retrained[1]["run"], tmp_path / "run")), "breast_cancer")
    serving = Serving(project, tmp_path / "log", "workers=2", f"keys={key_file}", "rate=100000")
    serving.headers = {"authorization": f"Bearer {key}"}
    workers = await_workers(serving, 2)
    serving.process.send_signal(signal.SIGHUP)  # too early for the workers, which must survive it
    failed, ended, answered = [], threading.Event(), [[] for _ in range(6)]
    body = json.dumps(row)
    with serving:
        assert serving.predict(row)[1]["model"] == first
        clients = [
            threading.Thread(target=ask_on_and_on, args=(serving, body, number % 2, answered[number], failed, ended))
            for number in range(6)
        ]
        for client in clients:
            client.start()
        try:
            project.publish(run, second)
            for tag, other in ((second, first), (first, second), (second, first)):
                if tag == first or answered[0].count(second):
                    assert project.retrain("rollback", "--to", tag).returncode == 0
                for _ in range(5):
                    assert other in serving.ask("/docs.json")[2].decode()
                serving.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 60
                while any(set(models[-10:]) != {tag} for models in answered):
                    assert time.monotonic() < deadline, [models[-1:] for models in answered]
                    time.sleep(0.05)
                for _ in range(5):
                    assert tag in serving.ask("/docs.json")[2].decode()
            graph = project.store / "models" / second.replace(":", "/") / "model.onnx"
            graph.write_bytes(graph.read_bytes() + b"x")
            assert serving.ask("/model", authorization=f"Bearer {later}")[0] == 401
            key_file.write_text(f"{line}\n{another}")
            serving.process.send_signal(signal.SIGHUP)
            deadline, statuses = time.monotonic() + 60, []
            while statuses[-20:] != [200] * 20:  # of either worker
                assert time.monotonic() < deadline
                statuses.append(serving.ask("/model", authorization=f"Bearer {later}")[0])
            key_file.write_text("shop")  # cannot be used, so the keys before stay valid
            serving.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while (tmp_path / "log").read_text().count(f"; {second} goes on") < 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert serving.ask("/readyz")[0] == 200 and serving.predict(row)[1]["model"] == second
        finally:
            ended.set()
            for client in clients:
                client.join()
        assert await_workers(serving, 2) == workers
        assert serving.ask("/model", authorization=f"Bearer {later}")[0] == 200
        counted = metrics(serving)
    assert failed == [] and all(len(models) > 30 for models in answered)
    log = (tmp_path / "log").read_text()
    assert log.count("line 1 is not NAME:SHA256-HEX") == 2 and key not in log and later not in log
    assert counted['bentoml_service_key_requests_total{http_response_code="200",key="shop"}'] > 180
    assert counted['bentoml_service_key_requests_total{http_response_code="401",key=""}'] >= 1


# Whether it is the model that was promoted


@pytest.fixture
def verify(retrained, tmp_path, typed):
    """The command line, in this process, with a copy of the store."""
    copy_of(retrained, tmp_path)
    return lambda *words: typed("verify", *words)


def test_verify_replays_the_golden_rows_at_a_service(service, retrained):
    done = retrained[0].retrain("verify", "--url", service.url + "/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("golden rows as the estimator did, singly and as a batch, in every form of a request\n")


@pytest.mark.slow
def test_verify_finds_a_service_that_answers_otherwise(retrained, golden, tmp_path):
    impostor = copy_of(retrained, tmp_path)
    source = (impostor.folder / "service.py").read_text()
    twisted = "        self.predictor.graph.run = lambda inputs, run=self.predictor.graph.run: run(inputs)[:, ::-1]\n"
    (impostor.folder / "service.py").write_text(
        source.replace("        gc.collect()\n", twisted + "        gc.collect()\n")
    )
    with Serving(impostor, tmp_path / "log") as serving:
        done = retrained[0].retrain("verify", "--url", serving.url)
        assert done.returncode == 1
        assert "differs from its golden rows:\n  records, one row a request, row 0: benign (" in done.stdout
        assert "indexed columns, all rows at once, row 31: " in done.stdout


def test_verify_takes_golden_rows_from_the_local_store_alone(service, project):
    done = project.retrain("verify", "--url", service.url)
    assert done.returncode == 1 and "there is no model breast_cancer:" in done.stderr


@pytest.mark.parametrize(
    ("model", "predictions", "sentence"),
    [
        (5, None, "answered 200 and not as this service does; is it another one?"),
        ({"tag": ""}, None, "answered 200 and not as this service does; is it another one?"),
        ({"tag": "no_such:0123"}, None, "there is no model no_such:0123 in the store"),
        ("own", [1], "answered 200 and not as this service does; is it another one?"),
        ("own", [{}], "answered 200 and not as this service does; is it another one?"),
        ("own", [{"label": "a", "probabilities": {"a": "much"}}], "answered 200 and not as this service does"),
        ("own", [], "gave 0 answers to 1 rows"),
        ("own", "another", "says it serves {tag}, but other:0123 answered"),
        ("own", [{"value": 1.0}], "records, one row a request, row 0: 1 instead of"),
        ("own", [{"label": "benign", "probabilities": {"benign": 1}}], "row 0: benign (benign 1.000000) instead of"),
    ],
)
def test_verify_names_what_an_impostor_does_otherwise(verify, retrained, model, predictions, sentence):
    tag = retrained[1]["model"]

    class Impostor(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply({"tag": tag} if model == "own" else model)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            first = body if isinstance(body, list) else next(iter(body.values()))
            rows = len(first) if isinstance(first, list | dict) else 1
            if predictions == "another":
                return self.reply({"model": "other:0123", "predictions": []})
            self.reply({"model": tag, "predictions": predictions * rows})

        def reply(self, content):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Impostor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = verify("--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1 and sentence.format(tag=tag) in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "status", "sentence"),
    [
        ("localhost:3000", 2, "--url localhost:3000: give the address with its scheme, such as http://localhost:3000"),
        ("http://127.0.0.1:1", 1, "http://127.0.0.1:1 does not answer"),
        ("http://", 1, "http: does not answer"),
        ("{}/livez", 1, "/livez/model answered 404: there is nothing at this path"),
    ],
)
def test_verify_of_a_wrong_address_says_so(service, verify, url, status, sentence):
    done = verify("--url", url.format(service.url))
    assert done.returncode == status and sentence in done.stderr and "Traceback" not in done.stderr
