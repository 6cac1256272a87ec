"""What a hostile client sends, to a real `bentoml serve`: it goes on answering, in bounded memory, with a line of its log for each request."""

import asyncio
import http.client
import json
import os
import socket
import struct
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import Serving, copy_of
from pages import serve, store_model

from modeler import ModelerError
from modeler.model.stored import StoredModel
from modeler.service import connections, intake
from modeler.service.body import RequestError
from modeler.service.connections import HEAD_SECONDS
from modeler.service.front import Front
from modeler.service.intake import HELD_BODIES, Intake
from modeler.service.predictor import Predictor
from modeler.service.telemetry import Metrics

GROWTH = 250 * 2**20  # bytes of memory that all of this may cost the worker; bodies of 8 MiB make most of it
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def service(retrained, tmp_path_factory):
    """A service that is asked its golden rows before and after the attacks; `known` are the ids of the requests it answered."""
    golden = json.loads((retrained[0].runs[0] / "golden.json").read_text())
    with Serving(retrained[0], tmp_path_factory.mktemp("serve") / "log", "max_body=8388608") as serving:
        serving.golden, serving.known, expected = golden["rows"], [], serving.predict(golden["rows"])
        (worker,) = serving.workers
        before, serving.stalled, serving.opened = worker.memory_info().rss, open_stalled(serving.port), time.monotonic()
        yield serving
        assert expected[0] == 200 and serving.predict(golden["rows"]) == expected
        assert serving.ask("/readyz")[0] == 200
        assert worker.memory_info().rss - before < GROWTH
        time.sleep(0.2)  # a line is written after its answer
        lines = serving.log_lines  # each is JSON, or this fails
        counted = Counter(line["request_id"] for line in lines)
        assert {counted[known] for known in serving.known} <= {1}
        assert all(line.keys() >= {"time", "status", "route", "milliseconds"} for line in lines)
        assert not [line for line in lines if line["status"] >= 500]
        assert "Traceback" not in serving._log.read_text("utf-8")


def connect(port: int, *, timeout=20) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def open_stalled(port: int) -> dict[str, list[socket.socket]]:
    """Connections by hundreds that send nothing, or too little; `test_clients_that_stall_are_given_up` goes on with them."""
    names = {"silent": 300, "head": 1, "second head": 1, "line ends": 1, "body nobody reads": 1}
    opened = {name: [connect(port) for _ in range(count)] for name, count in names.items()}
    for name in ("second head", "body nobody reads"):
        for connection in opened[name]:
            path = b"POST /nothing" if name.startswith("body") else b"GET /livez"
            connection.sendall(path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (10**9 * path.startswith(b"POST")))
            read_answer(connection)
    for name, begun in (("head", GET), ("second head", GET), ("line ends", b"\r\n"), ("body nobody reads", b"[")):
        opened[name][0].sendall(begun)
    return opened


def read_answer(connection: socket.socket):
    """Status, headers and body of the next answer."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.headers, answer.read()


def send(service, sent: bytes):
    """Status, headers and body of the answer to some bytes, and whether nothing came after it."""
    with connect(service.port) as connection:
        try:
            connection.sendall(sent)
        except ConnectionError:
            pass  # it was answered before it had come
        status, headers, body = read_answer(connection)
        service.known.append(headers["x-request-id"])
        connection.settimeout(0.05)
        try:
            rest = connection.recv(65536)
        except (TimeoutError, ConnectionResetError):
            rest = b""
    return status, headers, body, rest


# Heads


@pytest.mark.parametrize(
    "sent",
    [
        GET + b"X-Long: " + b"a" * 10_000_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(10_000)) + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        GET + b"Cookie: " + b"k=v;" * 250_000 + b"\r\n\r\n",
        b"\r\n" * 500_000,
    ],
    ids=["10 MB in one header", "10,000 headers", "1 MB in the request line", "1 MB in a cookie", "line ends"],
)
def test_head_that_is_too_large_is_a_431(service, sent):
    status, headers, body, rest = send(service, sent)
    assert status == 431 and headers["connection"] == "close" and rest == b""
    assert json.loads(body)["error"] == "the request line and headers are too large; send at most 65536 bytes"


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding : chunked\r\n\r\n" + SMUGGLED,
        POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n[]",
        POST + b"Content-Length: 0, 2\r\n\r\n[]",
        POST + b"Content-Length: +2\r\n\r\n[]",
        POST + b"Content-Length: -2\r\n\r\n[]",
        POST + b"Content-Length: 18446744073709551618\r\n\r\n[]",
        GET + b"X-Request-ID: a\x00b\r\n\r\n",
        GET + b"X-Request-ID: a\rX-Evil: b\r\n\r\n",
        GET + b"X-Request-ID: a\nX-Evil: b\r\n\r\n",
        GET + b"X-Request-ID: a\x1b[31m\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: localhost\n\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /ü HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_head_that_can_be_read_in_two_ways_is_a_400_and_the_end(service, sent):
    status, headers, body, rest = send(service, sent)
    assert status == 400 and headers["connection"] == "close" and rest == b""
    assert headers["content-type"] == "application/json" and "x-evil" not in headers
    assert json.loads(body)["error"].startswith(("this is no HTTP request", "this is no WebSocket"))


def test_request_id_cannot_forge_a_line_of_the_log(service):
    forged = '"},{"status":200,"request_id":"forged'
    status, headers, *_ = send(service, GET + b"X-Request-ID: %s\r\n\r\n" % forged.encode())
    assert status == 200 and headers["x-request-id"] == forged  # a text, which the log escapes
    for given in (b"a\tb", b"\xff\xfe", b"x" * 10_000):
        assert len(send(service, GET + b"X-Request-ID: " + given + b"\r\n\r\n")[1]["x-request-id"]) == 16
    assert "forged" not in [line["request_id"] for line in service.log_lines]


def test_pipelined_requests_are_answered_in_order(service):
    ids = [f"pipelined-{number}" for number in range(2000)]
    with connect(service.port) as connection:
        connection.sendall(b"".join(GET + b"X-Request-ID: %s\r\n\r\n" % given.encode() for given in ids))
        answered, stream = [], connection.makefile("rb")
        while len(answered) < len(ids):
            line = stream.readline()
            assert line
            answered += [line.split()[1].decode()] if line.startswith(b"x-request-id") else []
    assert answered == ids
    service.known += ids


def test_client_that_pipelines_and_goes_away_leaves_no_traceback(service):
    for _ in range(5):
        with connect(service.port) as connection:
            connection.sendall((b"GET /notebooks/eda HTTP/1.1\r\nHost: localhost\r\n\r\n") * 20)
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    time.sleep(1)
    assert "Traceback" not in service._log.read_text("utf-8")


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/notebooks/%2e%2e%2f%2e%2e%2fetc/passwd", "/notebooks/%252e%252e%252fcontract.json", "/notebooks/..\\..\\eda",
        "/notebooks/eda%00", "/notebooks//etc/passwd", "/notebooks/../model.skops", "/notebooks/eda.ipynb", "//etc/passwd",
        "/card/../model.yaml", "/card%00.html", "/page/files.py", "/page/..%2ffiles.py", "/page/../service.py", "/docs/..%2f..",
        "/static_content/..%2f..%2fcontainers.py", "/static_content/%252e%252e/", "/static_content//etc/passwd",
        "/static_content/%2fetc%2fpasswd", "/static_content/..\\..\\x", "/static_content/a%00b", "/static_content/%ed%a0%80",
        "/static_content/", "/static_content/" + "a/" * 20_000, "/a" * 20_000,
    ],
)  # fmt: skip
def test_path_that_leads_elsewhere_is_a_short_404(service, path):
    status, _, body, _ = send(service, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 404 and len(body) < 300 and json.loads(body)["error"].startswith("there is nothing at this path")


def test_long_path_is_looked_for_nowhere(service):
    head = "GET /static_content/" + "a/" * 20_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
    known = send(service, head.encode())[1]["x-request-id"]
    (line,) = await_lines(service, known)
    assert line["route"] == "other"


def await_lines(service, known: str) -> list[dict]:
    """The lines of the log with a request's id, the first of which is written after the answer."""
    deadline, lines = time.monotonic() + 10, []
    while not lines and time.monotonic() < deadline:
        lines = [line for line in service.log_lines if line["request_id"] == known]
    return lines


@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/notebooks/eda", "/card", "/docs"])
def test_page_is_read_and_nothing_else(service, path, method):
    sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\nContent-Length: 2\r\n\r\n[]"
    status, headers, body, _ = send(service, sent.encode())
    assert status == 405 and headers["allow"] == "GET, HEAD" and b"secret" not in body


@pytest.mark.parametrize("path", ["/", "/docs", "/docs.json", "/card"])
def test_host_and_query_change_no_page(service, path):
    plain = service.ask(path)[2]
    query = "?url=https://evil.example/x.json&configUrl=//evil.example&q=<script>alert(1)</script>"
    head = f"GET {path}{query} HTTP/1.1\r\nHost: evil.example\"><script>\r\nX-Forwarded-Host: evil.example\r\n\r\n"
    assert send(service, head.encode())[2] == plain


def test_link_in_a_models_folder_is_not_followed(retrained, tmp_path):
    project = copy_of(retrained, tmp_path)
    folder = project.store / "models" / retrained[1]["model"].replace(":", "/")
    (tmp_path / "secret").write_text('{"password": "secret"}')
    for name in ("card.html", "eda.html", "metrics.json"):
        (folder / name).unlink()
        os.symlink(tmp_path / "secret", folder / name)
    predictor = Predictor(StoredModel(retrained[1]["model"], folder), 100)
    for name in ("card", "eda"):
        with pytest.raises(RequestError, match=f"has no readable {name}.html"):
            predictor.read_page(name)
    with pytest.raises(ModelerError, match="has no readable metrics.json"):
        predictor.describe()


# Bodies

LARGEST = 8 * 2**20 - 100


def repeat(number, text: str) -> bytes:
    """A text so often, with commas, with its number in place of @."""
    return ",".join(text.replace("@", str(place)) for place in range(number)).encode()


BODIES = {
    "nested lists": lambda row: b"[" * (LARGEST // 2) + b"]" * (LARGEST // 2),
    "nested objects": lambda row: b'{"a":' * 100_000,
    "two million lists": lambda row: b"[" + b"[]," * 2_000_000 + b"[]]",
    "number of a million digits": lambda row: b'[{"mean radius": -%s}]' % (b"9" * 1_000_000),
    "exponent of a million digits": lambda row: b'[{"mean radius": 1e%s}]' % (b"9" * 1_000_000),
    "numbers that are none": lambda row: b"[" + repeat(4000, '{"mean radius": NaN, "mean texture": -1e400, "mean area": -Infinity}') + b"]",
    "half a million objects": lambda row: b"{" + repeat(500_000, '"@": {}') + b"}",
    "half a million columns": lambda row: b"{" + repeat(500_000, '"@": 1') + b"}",
    "half a million columns of lists": lambda row: b"{" + repeat(500_000, '"@": [1]') + b"}",
    "one column half a million times": lambda row: b"[{" + repeat(500_000, '"mean radius": 1') + b"}]",
    "half of a character": lambda row: json.dumps([row | {"mean radius": "\udc00"}]).encode(),
    "long name and value": lambda row: json.dumps([row | {"k" * 4_000_000: "v" * 4_000_000}]).encode(),
    "long names of control characters": lambda row: json.dumps([{f"{n}" + "\x01" * 6000: "\x02" * 6000 for n in range(110)}]).encode(),
    "10,000 rows of many faults": lambda row: json.dumps([{f"x{n}": "<script>" for n in range(40)}] * 10_000).encode(),
}


@pytest.mark.parametrize("kind", BODIES)
def test_answer_to_a_body_is_bounded_whatever_it_is(service, kind):
    status, headers, answer = service.ask("/predict", BODIES[kind](service.golden[0]))
    service.known.append(headers["x-request-id"])
    assert status in (400, 413) and len(answer) < 150_000  # a hundred faults, each with 100 characters of name and of value
    content = json.loads(answer, parse_constant=pytest.fail)
    assert len(content["error"]) < 300 and len(content["detail"]) <= 100


def test_large_requests_together_have_a_bound_and_small_ones_have_room():
    reader, scopes = Intake(100_000), [{} for _ in range(HELD_BODIES + 1)]
    for scope in scopes[:-1]:
        reader.hold(scope, 50_000)
        reader.hold(scope, 100_000)  # the rest of it, or its answer
    with pytest.raises(RequestError, match="too many large requests are under way") as refused:
        reader.hold(scopes[-1], 100_000)
    assert refused.value.status == 503 and refused.value.headers == [(b"retry-after", b"1")]
    reader.hold({}, 8_000)
    reader.release(scopes[0])
    reader.release(scopes[0])
    reader.hold(scopes[-1], 100_000)


# Clients that do not read, or do not send


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(store_model(tmp_path_factory.mktemp("model") / "two", "two"), 10_000)


def test_client_that_does_not_read_is_cut_off_and_what_waits_for_it_is_bounded(predictor, service, monkeypatch, caplog):  # while others stall at the service
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(intake, "HELD_BODIES", 1)
    row = json.dumps(predictor._model.read("golden.json")["rows"][0]).encode()
    large, unread = row + b" " * 2_000_000, []
    with serve({"two": predictor}) as (url, _):
        asked = SimpleNamespace(url=f"{url}/two", headers={})
        for _ in range(8):
            unread.append(socket.socket())
            unread[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread[-1].connect(("127.0.0.1", int(url.rpartition(":")[2])))
            unread[-1].sendall(b"GET /two/static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
        began, statuses = time.monotonic(), []
        while statuses[-1:] != [503] or time.monotonic() < began + 0.2:
            assert time.monotonic() < began + 10
            statuses.append(Serving.ask(asked, "/predict", large)[0])
            assert Serving.ask(asked, "/predict", row)[0] == 200
        while Serving.ask(asked, "/predict", large)[0] != 200:
            assert time.monotonic() < began + 10
            time.sleep(0.05)
        for connection in unread:
            with connection:
                await_end(connection)
    assert "Traceback" not in caplog.text


def test_large_answer_goes_out_in_pieces_and_counts_until_the_last_is_taken(predictor):
    rows = predictor._model.read("golden.json")["rows"] * 100
    front = Front(None, lambda: SimpleNamespace(predictor=predictor), Metrics("made", "1"), 2**20, 10)
    bodies, held = iter([json.dumps(rows).encode()]), []

    async def receive():
        return {"type": "http.request", "body": next(bodies)}

    async def send(message):
        bodies_sent.append(message.get("body", b""))
        held.append(front._intake._held)

    bodies_sent, scope = [], {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(front(scope, receive, send))
    sent = b"".join(bodies_sent)
    assert len(json.loads(sent)["predictions"]) == len(rows)
    assert len(bodies_sent) > 3 and max(map(len, bodies_sent)) <= 64 * 1024
    assert set(held) == {len(sent)} and front._intake._held == 0


def await_end(connection: socket.socket) -> None:
    """Read until the other side has closed or reset the connection."""
    connection.settimeout(5)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass


@pytest.mark.medium
def test_client_that_asks_no_more_is_given_up_later_than_by_a_proxy(predictor, monkeypatch):
    assert connections.IDLE_SECONDS > 60
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.5)
    with serve({"two": predictor}) as (url, _), connect(int(url.rpartition(":")[2])) as connection:
        for _ in range(2):
            connection.sendall(b"GET /two/readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection)[0] == 200
            time.sleep(0.3)
        began = time.monotonic()
        await_end(connection)
        assert time.monotonic() - began < 3  # by uvicorn's own setting, it would be 5


def test_clients_that_stall_are_given_up(service):
    dripped = {"head": b"X: a\r\n", "second head": b"X: a\r\n", "line ends": b"\r\n", "body nobody reads": b"a"}
    while time.monotonic() < service.opened + HEAD_SECONDS + 0.5:
        for name, drop in dripped.items():
            try:
                service.stalled[name][0].sendall(drop)
            except ConnectionError:
                pass
        time.sleep(0.2)
    for name in ("head", "second head"):
        status, headers, body = read_answer(service.stalled[name][0])
        assert status == 408 and json.loads(body)["error"].startswith("the request line and headers did not arrive within 10")
        service.known.append(headers["x-request-id"])
    assert read_answer(service.stalled["line ends"][0])[0] == 408
    for opened in service.stalled.values():
        for connection in opened:
            with connection:
                await_end(connection)
