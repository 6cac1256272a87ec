"""The HTTP front of the service: its routes, limits and errors.

It wraps BentoML's own application, because that one's middlewares cost more than an answer: the timeout keeps every
request in memory for a minute, and the metrics grow with every new path.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import perf_counter

import prometheus_client
from pydantic_core import to_json

from modeler import ModelerError, did_you_mean
from modeler.inside import limit_connections
from modeler.page.files import answer_file, list_routes
from modeler.service.access import Access
from modeler.service.body import JSON, RequestError
from modeler.service.connections import LimitedConnection
from modeler.service.intake import LARGE_BODY, ClientGone, Intake
from modeler.service.openapi import describe_access, describe_api
from modeler.service.pages import NOTEBOOKS, write_policy
from modeler.service.signals import handle_signals
from modeler.service.telemetry import Metrics, choose_request_id, write_log_line

PIECE = 64 * 1024  # bytes of an answer that are given to uvicorn at once
LONGEST_PATH = 200  # characters of a file's path; the system looks for each part of one
READ = ("GET", "HEAD")
STATIC = "/static_content/"  # Swagger UI, as BentoML brings it
log = logging.getLogger("bentoml.front")


@dataclass
class Reply:
    """What goes back to the client. `rows` and `model` are for the log."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]
    rows: int | None = None
    model: str | None = None


class Front:
    """An ASGI application around BentoML's, which it asks for liveness, the schema and static files.

    `get_service` returns the service's instance, once the application has started. Its `predictor` is None when the model
    cannot answer, and its `fault` says why. Its `load`, called at SIGHUP, replaces the predictor. `max_body` is in bytes,
    `grace` in seconds after SIGTERM or SIGINT. `log` is the prediction log, if there is one. What `access` demands holds for
    every route but `_open`: a page must load before it can ask a person for a key.
    """

    def __init__(
        self,
        app,
        get_service: Callable,
        metrics: Metrics,
        max_body: int,
        grace: int,
        log=None,
        access: Access | None = None,
    ):
        self._log, self._access = log, access or Access()
        self._open = {"/livez", "/readyz", STATIC, *list_routes()}
        self._app, self._get_service, self._metrics = app, get_service, metrics
        self._intake, self._grace, self._openapi = Intake(max_body), grace, None
        limit_connections(LimitedConnection, self._refuse_unreadable)
        self._threads = ThreadPoolExecutor(1, "large-bodies")
        self._explaining = ThreadPoolExecutor(1, "explanations")  # of its own: a large explanation takes seconds
        self._loading, self._started = asyncio.Lock(), asyncio.Event()
        self._farewell = []  # headers
        self._routes = {
            "/predict": (("POST",), self._predict),
            "/explain": (("POST",), self._explain),
            **dict.fromkeys(list_routes(), (READ, self._show_page)),
            "/examples": (READ, self._show_examples),
            "/docs.json": (READ, self._show_openapi),
            "/model": (READ, self._show_model),
            "/card": (READ, self._show_report),
            **{f"/notebooks/{name}": (READ, self._show_report) for name in NOTEBOOKS},
            "/readyz": (READ, self._show_readiness),
            "/metrics": (READ, self._show_metrics),
            **dict.fromkeys(("/livez", "/healthz", "/schema.json", STATIC), (READ, self._ask_bentoml)),
        }

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            # before the model is loaded, so that no promotion is missed
            handle_signals(self._grace, self._say_farewell, self._reload)

            async def tell(message):
                if message["type"] == "lifespan.shutdown.complete" and self._log:
                    self._log.close()  # no later: uvicorn then ends itself by SIGTERM, and nothing else would run
                await send(message)
                if message["type"] == "lifespan.startup.complete":
                    self._started.set()

            return await self._app(scope, receive, tell)
        started = perf_counter()
        headers = dict(scope["headers"])
        request_id = choose_request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        path, method, scope["request_id"] = scope["path"], scope["method"], request_id
        in_static = path.startswith(STATIC) and len(path) <= LONGEST_PATH
        route = path if path in self._routes else STATIC if in_static else "other"
        sent = Reply(499, b"", [])  # what is noted when the client goes away before its answer
        try:
            reply = await self._answer_or_refuse(route, scope, headers, receive, request_id)
            reply.headers += [
                (b"x-request-id", request_id.encode()),
                *self._access.name_origin(headers),
                *self._farewell,
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            last = (len(reply.body) - 1) // PIECE * PIECE
            for begin in range(0, last, PIECE):  # each waits until the client has taken most of what came before
                body = reply.body[begin : begin + PIECE]
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": reply.body[last:]})
            sent = reply
        except ClientGone:
            pass
        finally:
            self._intake.release(scope)
            self._note(request_id, method, route, sent, perf_counter() - started, scope.get("caller"))

    def _note(self, request_id: str, method: str | None, route: str, reply: Reply, seconds: float, caller=None) -> None:
        """Count a request and write its line of the log. `caller` names its key, "" if that is wrong; None if it needs none."""
        self._metrics.count_request(route, reply.status, seconds, caller)
        predictor = getattr(self._get_service(), "predictor", None)
        write_log_line(
            request_id=request_id,
            key=caller or None,
            model=reply.model or (predictor and predictor.tag),  # the one that answered may have been replaced since
            rows=reply.rows,
            status=reply.status,
            milliseconds=round(seconds * 1000, 3),
            method=method,
            route=route,
        )

    def _refuse_unreadable(self, status: int, sentence: str) -> bytes:
        """The refusal of what is no request, in the same shape as any other."""
        request_id = choose_request_id("")
        headers = [(b"connection", b"close"), (b"x-request-id", request_id.encode())]
        reply = _refuse(RequestError(status, sentence, headers=headers))
        self._note(request_id, None, "other", reply, 0.0)
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
            *(b"%s: %s" % header for header in reply.headers),
        ]
        return b"\r\n".join([*head, b"", reply.body])

    async def _answer_or_refuse(self, route: str, scope, headers: dict, receive, request_id: str) -> Reply:
        try:
            reply = await self._answer(route, scope, headers, receive)
            self._intake.hold(scope, len(reply.body))
            return reply
        except RequestError as error:
            return _refuse(error)
        except ModelerError as error:
            return _refuse(RequestError(503, str(error)))
        except ClientGone:
            raise
        except Exception as error:
            trace = "".join(traceback.format_tb(error.__traceback__))  # without the message, which may hold a value
            log.error("request %s failed with %s\n%s", request_id, type(error).__name__, trace)
            return _refuse(RequestError(500, f"the request failed; the log tells more under its id, {request_id}"))

    async def _answer(self, route: str, scope, headers: dict[bytes, bytes], receive) -> Reply:
        if allowed := self._access.answer_preflight(scope, headers):
            return Reply(204, b"", [*allowed])
        if route not in self._open:
            self._access.admit(scope, headers)
        if route == "other":
            near = did_you_mean(scope["path"][:100], (known for known in self._routes if known != STATIC))
            raise RequestError(404, f"there is nothing at this path{near or '; /docs.json lists the routes'}")
        methods, answer = self._routes[route]
        if scope["method"] not in methods:
            allow = [(b"allow", ", ".join(methods).encode())]
            sentence = f"{route} answers {' and '.join(methods)} only"
            raise RequestError(405, sentence, value=scope["method"], headers=allow)
        return await answer(scope, headers, receive)

    async def _predict(self, scope, headers, receive) -> Reply:
        body, predictor = await self._intake.read(scope, receive, headers), self._get_predictor()
        ask = partial(self._log.answer, predictor, scope["request_id"]) if self._log else predictor.answer
        if len(body) < LARGE_BODY:
            answer = ask(body)
        else:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, ask, body)
        return self._reply_answer(predictor, answer)

    async def _explain(self, scope, headers, receive) -> Reply:
        body, predictor = await self._intake.read(scope, receive, headers), self._get_predictor()
        answer = await asyncio.get_running_loop().run_in_executor(self._explaining, predictor.explain, body)
        return self._reply_answer(predictor, answer)

    def _reply_answer(self, predictor, answer) -> Reply:
        self._metrics.count_answer(predictor.tag, answer.labels, answer.warnings)
        return _reply(answer.body, JSON, rows=answer.rows, model=predictor.tag)

    def _say_farewell(self) -> None:
        """Have each answer from now on be the last of its connection."""
        self._farewell = [(b"connection", b"close")]

    def _get_predictor(self):
        service = self._get_service()
        if service.predictor is None:
            raise RequestError(503, service.fault)
        return service.predictor

    async def _reload(self) -> None:
        """Load keys and model anew, once for each SIGHUP; the former ones answer meanwhile."""
        async with self._loading:
            await self._started.wait()
            for load in (self._access.load, self._get_service().load):
                await asyncio.get_running_loop().run_in_executor(None, load)
            self._openapi = None

    async def _show_model(self, scope, headers, receive) -> Reply:
        return _reply(to_json(self._get_predictor().describe()), JSON)

    async def _show_report(self, scope, headers, receive) -> Reply:
        name = scope["path"].rpartition("/")[2]
        page = self._get_predictor().read_page(name)
        headers = [
            (b"content-security-policy", write_policy(name, page).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        return _reply(page, "text/html; charset=utf-8", headers=headers)

    async def _show_openapi(self, scope, headers, receive) -> Reply:
        predictor = self._get_predictor()
        if self._openapi is None:
            document = describe_api(predictor.contract, predictor.example, predictor.max_rows, self._intake.max_body)
            self._openapi = to_json(describe_access(document, bool(self._access.file), self._access.rate))
        return _reply(self._openapi, JSON)

    async def _show_page(self, scope, headers, receive) -> Reply:
        return Reply(*answer_file(scope["path"], headers.get(b"if-none-match", b"")))

    async def _show_examples(self, scope, headers, receive) -> Reply:
        return _reply(to_json(self._get_predictor().list_examples()), JSON)

    async def _show_readiness(self, scope, headers, receive) -> Reply:
        self._get_predictor()
        return _reply(b"\n", "text/plain; charset=utf-8")

    async def _show_metrics(self, scope, headers, receive) -> Reply:
        predictor = getattr(self._get_service(), "predictor", None)
        return _reply(self._metrics.expose(predictor), prometheus_client.CONTENT_TYPE_LATEST)

    async def _ask_bentoml(self, scope, headers, receive) -> Reply:
        messages = []

        async def keep(message):
            messages.append(message)

        await self._app(scope, receive, keep)
        start, *parts = messages
        if start["status"] >= 400:
            told = "there is nothing at this path" if start["status"] == 404 else "BentoML refused this"
            raise RequestError(start["status"], f"{told}; /docs.json lists the routes")
        return Reply(start["status"], b"".join(part.get("body", b"") for part in parts), list(start["headers"]))


def _reply(body: bytes, content_type: str, status: int = 200, headers: Sequence = (), **told) -> Reply:
    of_body = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    return Reply(status, body, [*of_body, *headers], **told)


def _refuse(error: RequestError) -> Reply:
    return _reply(to_json(error.answer), JSON, error.status, error.headers)
