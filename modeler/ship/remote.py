"""A running service, asked over HTTP as its callers ask it."""

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NotRequired

import requests
from pydantic import Field, TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter
from typing_extensions import TypedDict
from urllib3 import Retry

from modeler import ModelerError, UsageError
from modeler.model.golden import replay_golden
from modeler.model.stored import StoredModel, load_model
from modeler.service.body import FORMS, ONE_RECORD, write_forms

SECONDS = 30  # to wait for an answer
KEY = "PREDICTION_KEY"  # environment variable: the key, if the service asks for one
WAIT = Retry(100, connect=0, read=False, allowed_methods=None, raise_on_status=False)  # as long as a 429 tells


class Label(TypedDict):
    label: Any
    probabilities: dict[str, float]


class Value(TypedDict):
    value: float
    low: NotRequired[float]
    high: NotRequired[float]


class Model(TypedDict):
    tag: Annotated[str, Field(pattern="^[^:]+:[^:]+$")]


class Answers(TypedDict):
    model: str
    predictions: list[Label | Value]


class Error(TypedDict):
    error: str


class RemoteService:
    """A service at a URL, and the tag of the model it says it serves; a ModelerError if it is no service like ours."""

    def __init__(self, url: str):
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--url {url}: give the address with its scheme, such as http://localhost:3000")
        self.url = url.rstrip("/")
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=WAIT))
        if os.environ.get(KEY):
            self._session.auth = _bear_key
        self.tag = self._ask("GET", "/model", Model)["tag"]

    def answer_in(self, form: str) -> Callable[[Sequence[dict]], list[dict]]:
        """A function that answers rows by sending them in one of `FORMS`."""

        def answer(rows: Sequence[dict]) -> list[dict]:
            parts = [[row] for row in rows] if form == ONE_RECORD else [rows]
            return [given for part in parts for given in self._predict(write_forms(part)[form], len(part))]

        return answer

    def _predict(self, body, rows: int) -> list[dict]:
        content = self._ask("POST", "/predict", Answers, json=body)
        if content["model"] != self.tag:
            raise ModelerError(f"{self.url} says it serves {self.tag}, but {content['model']} answered")
        if len(content["predictions"]) != rows:
            raise ModelerError(f"{self.url} gave {len(content['predictions'])} answers to {rows} rows")
        return content["predictions"]

    def _ask(self, method: str, route: str, kind: type, **content) -> dict:
        try:
            answer = self._session.request(method, self.url + route, timeout=SECONDS, **content)
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            reason = type(getattr(cause, "reason", cause)).__name__
            told = f"does not answer ({reason}); start the service, or mend the address"
            raise ModelerError(f"{self.url} {told}") from None
        try:
            if answer.status_code == 200:
                return TypeAdapter(kind).validate_json(answer.content, strict=True)
            told = f": {TypeAdapter(Error).validate_json(answer.content)['error']}"
        except ValidationError:
            told = " and not as this service does; is it another one?"
        raise ModelerError(f"{self.url}{route} answered {answer.status_code}{told}")


def _bear_key(request):
    request.headers["authorization"] = f"Bearer {os.environ[KEY]}"
    return request


def replay_at_service(url: str) -> tuple[StoredModel, list[str]]:
    """Replay golden rows at a service, in every form that a request may have.

    They are those of the model in the local store whose tag the service reports. Returns that model, and a sentence for
    every difference.
    """
    service = RemoteService(url)
    model = load_model(service.tag)
    contract, golden = model.read("contract.json"), model.read("golden.json")
    return model, [
        f"{form}, {difference}"
        for form in FORMS
        for difference in replay_golden(golden, contract, service.answer_in(form))
    ]
