"""Who may ask: keys, rates and origins, of the front as an ASGI application."""

import hashlib
import json
import logging
import time
import tracemalloc
from contextlib import suppress
from types import SimpleNamespace

import pytest
from pages import serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from test_predictor import store_model

from modeler import ModelerError
from modeler.model.golden import replay_golden
from modeler.page.files import list_routes
from modeler.service import access as module
from modeler.service.access import Access, make_key, read_keys, read_origins
from modeler.service.body import RequestError
from modeler.service.front import STATIC, Front
from modeler.service.predictor import Predictor
from modeler.service.telemetry import Metrics
from modeler.ship.remote import RemoteService

HOST = "10.0.0.1"
PAGE = "https://shop.example.org"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(store_model(tmp_path_factory.mktemp("model"), "two"), 1000)


@pytest.fixture
def start(predictor):
    """Put a front with these arguments of Access around the predictor; how a host asks it."""

    def make_front(*arguments, **settings):
        service = SimpleNamespace(predictor=predictor, fault="")
        inner = Starlette(routes=[Route(path, lambda request: PlainTextResponse("\n")) for path in ("/livez", "/healthz")])
        metrics = Metrics("made", "1")
        app = Front(inner, lambda: service, metrics, 10_000, 10, access=Access(*arguments, **settings))

        def ask(path="/model", key=None, method="GET", host=HOST, **headers):
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            if key is not None:
                told["authorization"] = f"Bearer {key}"
            return TestClient(app, client=(host, 1234)).request(method, path, headers=told)

        ask.front, ask.metrics = app, metrics
        return ask

    return make_front


@pytest.fixture
def keys(tmp_path):
    """A key file with two names, and the key of each."""
    made = {name: make_key(name) for name in ("shop", "app")}
    write(tmp_path / "keys", "# who may ask\n\n" + "\r\n".join(f" {line}  # since May" for _, line in made.values()))
    return SimpleNamespace(file=tmp_path / "keys", **{name: key for name, (key, _) in made.items()})


def write(file, text) -> None:
    file.write_text(text)
    file.chmod(0o640)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the buckets, which stands until it is put on."""
    time = SimpleNamespace(now=1e6)
    monkeypatch.setattr(module, "monotonic", lambda: time.now)
    return time


# Keys


@pytest.mark.medium
def test_every_route_but_those_that_load_the_page_wants_a_key(start, keys):
    ask, opened = start(keys.file), {"/livez", "/readyz", STATIC, *list_routes()}
    routes = [*ask.front._routes, "/nothing", "/page/files.py"]
    assert {route for route in routes if ask(route).status_code != 401} == opened
    for method in ("POST", "PUT", "OPTIONS"):
        assert ask("/predict", method=method).status_code == 401
    refused = ask("/predict", method="POST")
    sentence = "a right key is missing: send the header authorization: Bearer KEY"
    assert refused.json() == {
        "error": sentence,
        "detail": [{"row": None, "field": None, "message": sentence, "value": None}],
    }
    assert refused.headers["www-authenticate"] == "Bearer" and refused.headers["x-request-id"]
    for key in (keys.shop, keys.app):
        assert {ask(route, key).status_code for route in routes} >= {200, 404, 405}
        assert 401 not in {ask(route, key).status_code for route in routes}
    assert ask("/livez", "wrong").status_code == 200


@pytest.mark.parametrize("form", ["bearer {}", "Bearer   {} ", "BEARER {}"])
def test_key_is_taken_however_the_header_is_written(start, keys, form):
    assert start(keys.file)(authorization=form.format(keys.shop)).status_code == 200


@pytest.mark.parametrize("form", ["", "Bearer", "Bearer ", "{}", "Basic {}", "Bearer {}x", "Bearer x{}", "Bearer {}, x"])
def test_what_is_not_the_whole_key_is_refused_and_not_repeated(start, keys, form):
    write(keys.file, f"{keys.file.read_text()}\nnobody:{hashlib.sha256(b'').hexdigest()}")
    given = start(keys.file)(authorization=form.format(keys.shop))
    assert given.status_code == 401 and keys.shop not in given.text
    assert start(keys.file)(authorization=b"Bearer " + b"\xff" * 10_000).status_code == 401


def test_half_a_hash_opens_nothing(start, keys):
    digest = hashlib.sha256(keys.shop.encode()).hexdigest()
    write(keys.file, f"shop:{digest[:-1]}{'0' if digest[-1] != '0' else '1'}")
    assert start(keys.file)(key=keys.shop).status_code == 401


def test_cookie_of_a_followed_link_is_taken_for_reading_alone(start, keys):
    ask = start(keys.file)
    cookie = f"other=1; key={keys.shop}"
    assert ask("/model", cookie=cookie).status_code == 200
    assert ask("/predict", method="POST", cookie=cookie).status_code == 401
    assert ask("/model", cookie=cookie, authorization="Basic x").status_code == 401
    assert ask("/model", cookie=f"monkey={keys.shop}").status_code == 401


def test_log_and_metrics_tell_the_name_and_never_the_key(start, keys, capsys):
    ask = start(keys.file)
    ask(key=keys.shop)
    ask("/nothing", key=keys.shop)
    ask(key="wrong-key")
    ask("/livez", key=keys.app)
    told, counted = capsys.readouterr().out, ask.metrics.expose().decode()
    assert [json.loads(line)["key"] for line in told.splitlines()] == ["shop", "shop", None, None]
    for status, name in ((200, "shop"), (404, "shop"), (401, "")):
        assert f'key_requests_total{{http_response_code="{status}",key="{name}"}} 1.0' in counted
    for secret in (keys.shop, keys.app, "wrong-key", hashlib.sha256(keys.shop.encode()).hexdigest()):
        assert secret not in told + counted


# The key file


def test_new_key_is_random_and_its_line_holds_its_hash_alone(typed, tmp_path):
    shown = [typed("key", "shop-2").stdout.splitlines() for _ in range(2)]
    for _, key, _, line in shown:
        assert len(key) >= 43 and key not in line
        write(tmp_path / "keys", line)
        assert read_keys(tmp_path / "keys") == {hashlib.sha256(key.encode()).digest(): "shop-2"}
    assert shown[0][1] != shown[1][1]


@pytest.mark.parametrize("name", ["a:b", "#a", "a b", "-x" * 40, "ü"])
def test_name_that_cannot_stand_in_the_file_is_refused(typed, name):
    done = typed("key", "--", name)
    assert done.returncode == 2 and done.stdout == "" and f"{name!r} is no name of a key" in done.stderr


def test_every_broken_line_is_named_and_none_is_repeated(keys):
    good = keys.file.read_text().splitlines()[2]
    broken = [good, "shop", keys.shop, "shop:" + "g" * 64, "shop:" + "a" * 63, f"other{good.strip()[4:]}", ":" + "a" * 64]
    write(keys.file, "\n".join(["#", *broken]))
    with pytest.raises(ModelerError) as refused:
        read_keys(keys.file)
    wrong = [f"line {number} is not NAME:SHA256-HEX" for number in (3, 4, 5, 6)]
    told = [*wrong, "line 7 repeats the key of shop", "line 8 is not NAME:SHA256-HEX"]
    assert str(refused.value) == (
        f"the key file {keys.file} cannot be used: {', '.join(told)}; mend or remove each. "
        "`python pipeline.py key NAME` makes a key and its line"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "has no key, so nobody could ask"),
        (b"# a\n\n", "has no key, so nobody could ask"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_key_file_that_holds_no_key_is_told(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ModelerError, match=f"the key file {tmp_path}/keys {sentence}; `python pipeline.py key NAME` makes"):
        Access(tmp_path / "keys")


def test_key_file_that_everybody_can_read_is_warned_of(keys, caplog):
    Access(keys.file)
    assert caplog.text == ""
    keys.file.chmod(0o644)
    Access(keys.file)
    assert f"everybody on this machine can read the key file {keys.file}; `chmod o-r` forbids it" in caplog.text


def test_one_name_may_have_two_keys_while_one_takes_over_from_the_other(start, keys, caplog):
    caplog.set_level(logging.INFO)
    ask = start(keys.file)
    (second, line), former = make_key("shop"), keys.file.read_text()
    assert ask(key=second).status_code == 401
    write(keys.file, f"{former}\n{line}")
    ask.front._access.load()
    assert ask(key=second).status_code == ask(key=keys.shop).status_code == 200
    write(keys.file, line)
    ask.front._access.load()
    assert (ask(key=second).status_code, ask(key=keys.shop).status_code) == (200, 401)


@pytest.mark.parametrize("content", ["shop", "", None])
def test_file_that_cannot_be_used_any_more_leaves_the_keys_before(start, keys, caplog, content):
    ask = start(keys.file)
    keys.file.unlink()
    if content is not None:
        write(keys.file, content)
    ask.front._access.load()
    assert ask(key=keys.shop).status_code == 200 and ask(key="shop").status_code == 401
    assert f"the key file {keys.file} " in caplog.text and "Until then the keys before are valid" in caplog.text


# How often


def test_address_may_ask_so_often_a_second_and_is_told_to_wait(start, clock):
    ask = start(rate=3)
    assert [ask().status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = ask("/predict", method="POST")
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == "too many requests; send at most 3 a second"
    assert ask(host="10.0.0.2").status_code == 200
    for path in ("/livez", "/readyz", "/", "/page/page.js"):
        assert ask(path).status_code == 200
    clock.now += 0.34
    assert [ask().status_code for _ in range(2)] == [200, 429]
    clock.now += 1
    assert [ask().status_code for _ in range(4)] == [200, 200, 200, 429]


def test_hundred_a_second_are_a_hundred(start, clock):
    bucket = Access(rate=100)._buckets
    for _ in range(3):
        assert [bucket.take(7) for _ in range(102)] == [True] * 100 + [False] * 2
        clock.now += 1


def test_owner_of_a_key_is_counted_by_it_and_who_guesses_by_the_address(start, keys, clock):
    ask = start(keys.file, 2)
    assert [ask(key="guess").status_code for _ in range(4)] == [401, 401, 429, 429]
    assert [ask(key=keys.shop).status_code for _ in range(3)] == [200, 200, 429]  # from the same address
    assert [ask(key=keys.shop, host="10.0.0.9").status_code, ask(key=keys.app).status_code] == [429, 200]
    assert ask(host="10.0.0.9").status_code == 401


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("not:an:address", "not:an:address", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
    ],
)
def test_client_is_an_address_or_the_network_that_one_client_has(start, clock, one, other, shared):
    ask = start(rate=1)
    assert ask(host=one).status_code == 200
    assert ask(host=other).status_code == (429 if shared else 200)


def test_workers_count_together(start, tmp_path, keys, clock):
    first, second = (start(keys.file, 2, shared=str(tmp_path)) for _ in range(2))
    assert [ask(host=host).status_code for ask, host in ((first, HOST), (second, HOST), (first, HOST))] == [401, 401, 429]
    assert [ask(key=keys.shop).status_code for ask in (second, first, second, first)] == [200, 200, 429, 429]
    third = start(keys.file, 2, shared=str(tmp_path))  # one that is started anew
    assert third(key=keys.shop).status_code == 429
    told = (tmp_path / "rates").stat()
    assert told.st_size == 8 * (module.KEYS + module.ADDRESSES)
    assert told.st_blocks * 512 >= told.st_size  # a hole would end the process where the disk is full


def test_flood_of_addresses_takes_no_memory():
    access, scopes = Access(rate=1), [{"client": (f"10.1.{number // 256}.{number % 256}", 1)} for number in range(20_000)]
    tracemalloc.start()
    for scope in scopes:
        with suppress(RequestError):  # by chance two of them share a bucket
            access.admit(scope, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


# Which pages


def preflight(ask, origin, method="POST"):
    told = {"access_control_request_method": method, "access_control_request_headers": "authorization,content-type"}
    return ask("/predict", method="OPTIONS", origin=origin, **told)


def test_preflight_of_an_allowed_origin_needs_no_key(start, keys):
    ask = start(keys.file, origins=["http://localhost:8080", PAGE])
    given = preflight(ask, PAGE)
    assert given.status_code == 204 and given.content == b""
    assert given.headers["access-control-allow-origin"] == PAGE and given.headers["vary"] == "origin"
    assert given.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert given.headers["access-control-allow-headers"] == "authorization, content-type, x-request-id"
    assert "access-control-allow-credentials" not in given.headers


@pytest.mark.parametrize(
    "origin",
    ["null", "*", "", f"{PAGE}.evil.org", f"{PAGE}:8443", f"{PAGE}/", PAGE.upper(), PAGE.replace("https", "http"),
     "https://example.org", "https://a.shop.example.org", "https://evil.org?https://shop.example.org"],
)  # fmt: skip
def test_origin_that_differs_in_anything_is_not_allowed(start, origin):
    ask = start(origins=[PAGE])
    refused, answered = preflight(ask, origin), ask(origin=origin)
    assert refused.status_code == 403 and refused.json()["error"].startswith("pages of this origin may not ask")
    assert answered.status_code == 200 and answered.headers["vary"] == "origin"
    for given in (refused, answered):
        assert "access-control-allow-origin" not in given.headers


def test_page_of_an_allowed_origin_reads_every_answer_also_a_refusal(start, keys, clock):
    ask = start(keys.file, 1, [PAGE])
    answers = [ask(key=keys.shop, origin=PAGE), ask(key=keys.shop, origin=PAGE), ask(origin=PAGE), ask("/", origin=PAGE)]
    assert [given.status_code for given in answers] == [200, 429, 401, 200]
    for given in answers:
        assert given.headers["access-control-allow-origin"] == PAGE
        assert given.headers["access-control-expose-headers"] == "x-request-id, retry-after"


def test_without_origins_nothing_is_said_of_them(start):
    ask = start()
    assert preflight(ask, PAGE).status_code == 405
    assert not [name for name in ask(origin=PAGE).headers if name.startswith(("access-control", "vary"))]


def test_origins_are_read_as_browsers_send_them():
    sent = ["https://a.org", "http://localhost:8080", "http://[::1]:3000", "chrome-extension://abc"]
    assert read_origins(", ".join(sent)) == sent
    for wrong in ("*", "null", "", "a.org", "https://a.org/", "https://A.org", "https://*.a.org", "https://a.org:443", "http://a:80"):
        with pytest.raises(ModelerError, match="is no origin; write each as a browser sends it, such as https://example.org"):
            read_origins(f"https://b.org,{wrong}")


# Programs of ours


@pytest.mark.medium
def test_golden_rows_are_replayed_with_a_key_and_no_faster_than_allowed(predictor, keys, monkeypatch):
    golden = predictor._model.read("golden.json")
    with serve({"two": predictor}, {"two": Access(keys.file, 20)}) as (url, _):
        with pytest.raises(ModelerError, match="/two/model answered 401: a right key is missing: send the header"):
            RemoteService(f"{url}/two")
        monkeypatch.setenv("PREDICTION_KEY", keys.app)
        service, started = RemoteService(f"{url}/two"), time.monotonic()
        assert replay_golden(golden, predictor.contract, service.answer_in("one record")) == []
    assert time.monotonic() - started > 0.5  # 33 requests, 20 of them at once


# What it says about itself


def test_openapi_names_the_scheme_and_the_refusals(start, keys):
    document = start(keys.file, 5)("/docs.json", keys.shop).json()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"] | {"description": ""} == {
        "type": "http", "scheme": "bearer", "description": ""
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for operation in methods.values():
            open_to_all = path in ("/livez", "/readyz")
            assert ({"401", "429"} <= set(operation["responses"])) == (not open_to_all)
            assert operation.get("security") == ([] if open_to_all else None)
    plain = start()("/docs.json").json()
    assert "security" not in plain and "401" not in plain["paths"]["/predict"]["post"]["responses"]
