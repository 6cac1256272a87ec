"""The HTTP front of the service: its routes, limits and errors.

It stands around BentoML's own application, whose middlewares cost more than an answer does: the timeout keeps every
request in memory for a minute, the metrics grow by every path that anybody asks for.
"""

import asyncio
import logging
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import prometheus_client
from pydantic_core import from_json, to_json

from modeler import ModelerError, did_you_mean
from modeler.body import RequestError
from modeler.openapi import PAGES, describe_api, make_example
from modeler.telemetry import Metrics, choose_request_id, write_log_line

LARGE_BODY = 64 * 1024  # bytes from which a body is answered in a thread, so that small requests need not wait
BODY_SECONDS = 30  # in which a body must have arrived
READ = ("GET", "HEAD")
STATIC = "/static_content/"  # Swagger UI, as BentoML brings it
START_PAGE = Path(__file__).with_name("start_page.html")
JSON_TYPE = re.compile(r'\s*application/([\w.+-]+\+)?json\s*(;\s*charset="?utf-?8"?\s*)?', re.IGNORECASE)
# The pages load nothing from outside. A notebook's page holds all it needs; the start page has Swagger UI beside it.
NOTEBOOK_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; font-src data:"
)
START_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:"
)

log = logging.getLogger("bentoml.front")


@dataclass
class Reply:
    """What goes back. `rows` is for the log."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]
    rows: int | None = None


class ClientGone(Exception):
    """The client closed the connection before its request had arrived."""


class Front:
    """An ASGI application around BentoML's, which it asks for liveness, the schema and static files.

    Parameters
    ----------
    app
        BentoML's application.
    get_service
        Returns the service's instance, once the application has started. Its `predictor` is None where the model cannot
        answer, and its `fault` says why.
    metrics
        Where requests and predictions are counted.
    max_body
        Bytes above which a body is refused before it is read.
    grace
        Seconds after SIGTERM or SIGINT in which requests in flight are answered.
    """

    def __init__(self, app, get_service: Callable, metrics: Metrics, max_body: int, grace: int):
        self._app, self._get_service, self._metrics = app, get_service, metrics
        self._max_body, self._grace = max_body, grace
        self._threads = ThreadPoolExecutor(1, "large-bodies")
        self._routes = {
            "/predict": (("POST",), self._predict),
            "/": (READ, self._show_start_page),
            "/docs.json": (READ, self._show_openapi),
            "/model": (READ, self._show_model),
            **{f"/notebooks/{name}": (READ, self._show_notebook) for name in PAGES},
            "/readyz": (READ, self._show_readiness),
            "/metrics": (READ, self._show_metrics),
            **dict.fromkeys(("/livez", "/healthz", "/schema.json", STATIC), (READ, self._ask_bentoml)),
        }

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            limit_grace(self._grace)
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = perf_counter()
        headers = dict(scope["headers"])
        request_id = choose_request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        path = scope["path"]
        route = path if path in self._routes else STATIC if path.startswith(STATIC) else "other"
        try:
            reply = await self._answer(route, scope, headers, receive)
        except ClientGone:
            reply = None
        except RequestError as error:
            reply = _refuse(error)
        except ModelerError as error:
            reply = _refuse(RequestError(503, str(error)))
        except Exception as error:
            trace = "".join(traceback.format_tb(error.__traceback__))  # without the message, which may hold a value
            log.error("request %s failed with %s\n%s", request_id, type(error).__name__, trace)
            reply = _refuse(RequestError(500, f"the request failed; the log tells more under its id, {request_id}"))
        try:
            if reply:
                reply.headers.append((b"x-request-id", request_id.encode()))
                await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
                await send({"type": "http.response.body", "body": reply.body})
        finally:
            seconds, status = perf_counter() - started, reply.status if reply else 499
            self._metrics.count_request(route, status, seconds)
            predictor = self._get_service().predictor
            write_log_line(
                request_id,
                predictor and predictor.tag,
                reply and reply.rows,
                status,
                seconds,
                method=scope["method"],
                route=route,
            )

    async def _answer(self, route: str, scope, headers: dict[bytes, bytes], receive) -> Reply:
        if route == "other":
            near = did_you_mean(scope["path"][:100], (known for known in self._routes if known != STATIC))
            raise RequestError(404, f"there is nothing at this path{near or '; /docs.json lists the routes'}")
        methods, answer = self._routes[route]
        if scope["method"] not in methods:
            allowed = " and ".join(methods)
            refusal = _refuse(RequestError(405, f"{route} answers {allowed} only", value=scope["method"]))
            refusal.headers.append((b"allow", ", ".join(methods).encode()))
            return refusal
        return await answer(scope, headers, receive)

    async def _predict(self, scope, headers, receive) -> Reply:
        body = await self._read_body(headers, receive)  # first of all: who is still sending does not see an answer
        predictor = self._get_predictor()
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        if not JSON_TYPE.fullmatch(content_type):
            sentence = "the body must be JSON: send the header content-type: application/json"
            raise RequestError(415, sentence, value=content_type)
        if encoding := headers.get(b"content-encoding", b"").decode("latin-1"):
            raise RequestError(415, "the body must not be compressed", value=encoding)
        if len(body) < LARGE_BODY:
            answer = predictor.answer(body)
        else:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, predictor.answer, body)
        self._metrics.count_answer(predictor.tag, answer.labels, answer.warnings)
        return _reply_json(answer.body, rows=answer.rows)

    async def _read_body(self, headers, receive) -> bytes:
        """Read a body; what is beyond the limit is read too, but not kept, within the same time."""
        too_large = RequestError(413, f"the body is too large; send at most {self._max_body} bytes a request")
        excessive = int(headers.get(b"content-length", 0)) > self._max_body
        if excessive and b"expect" in headers:
            raise too_large  # the client waits to be told whether to send
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    more = message.get("more_body", False)
                    size += len(message["body"])
                    if excessive := excessive or size > self._max_body:
                        parts.clear()
                    else:
                        parts.append(message["body"])
        except TimeoutError:
            raise (
                too_large if excessive else RequestError(408, f"the body did not arrive within {BODY_SECONDS} seconds")
            ) from None
        if excessive:
            raise too_large
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _get_predictor(self):
        service = self._get_service()
        if service.predictor is None:
            raise RequestError(503, service.fault)
        return service.predictor

    async def _show_model(self, scope, headers, receive) -> Reply:
        return _reply_json(to_json(self._get_predictor().describe()))

    async def _show_notebook(self, scope, headers, receive) -> Reply:
        page = self._get_predictor().read_page(scope["path"].rpartition("/")[2])
        return _reply_page(page, NOTEBOOK_POLICY)

    async def _show_openapi(self, scope, headers, receive) -> Reply:
        predictor = self._get_predictor()
        answer = from_json(predictor.answer(to_json(make_example(predictor.contract))).body)
        return _reply_json(to_json(describe_api(predictor.contract, answer, predictor.max_rows, self._max_body)))

    async def _show_start_page(self, scope, headers, receive) -> Reply:
        return _reply_page(START_PAGE.read_bytes(), START_POLICY)

    async def _show_readiness(self, scope, headers, receive) -> Reply:
        self._get_predictor()
        return _reply(b"\n", "text/plain; charset=utf-8")

    async def _show_metrics(self, scope, headers, receive) -> Reply:
        return _reply(self._metrics.expose(), prometheus_client.CONTENT_TYPE_LATEST)

    async def _ask_bentoml(self, scope, headers, receive) -> Reply:
        messages = []

        async def keep(message):
            messages.append(message)

        await self._app(scope, receive, keep)
        start, *parts = messages
        if start["status"] >= 400:
            raise RequestError(start["status"], "there is nothing at this path; /docs.json lists the routes")
        return Reply(start["status"], b"".join(part.get("body", b"") for part in parts), list(start["headers"]))


def limit_grace(seconds: int) -> None:
    """End the process at most this many seconds after SIGTERM or SIGINT; BentoML would wait a day for a slow client."""
    if threading.current_thread() is not threading.main_thread():
        return  # not the server's own process, as in a test
    for ending in (signal.SIGTERM, signal.SIGINT):
        former = signal.getsignal(ending)

        def end(number, frame, former=former):
            timer = threading.Timer(seconds, os._exit, [0])
            timer.daemon = True
            timer.start()
            if callable(former):
                former(number, frame)

        signal.signal(ending, end)


def _reply(body: bytes, content_type: str) -> Reply:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    return Reply(200, body, headers)


def _reply_json(body: bytes, status: int = 200, rows: int | None = None) -> Reply:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return Reply(status, body, headers, rows)


def _reply_page(body: bytes, policy: str) -> Reply:
    reply = _reply(body, "text/html; charset=utf-8")
    reply.headers += [(b"content-security-policy", policy.encode()), (b"x-content-type-options", b"nosniff")]
    return reply


def _refuse(error: RequestError) -> Reply:
    return _reply_json(to_json(error.answer), error.status)
