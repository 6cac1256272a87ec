"""A running service, asked over HTTP as its callers ask it."""

import re
from collections.abc import Callable, Sequence

import requests

from modeler import ModelerError, UsageError
from modeler.model.golden import replay_golden
from modeler.model.stored import StoredModel, load_model
from modeler.service.body import FORMS, ONE_RECORD, write_forms

SECONDS = 30  # to wait for an answer


class RemoteService:
    """A service at a URL, and the tag of the model it says it serves.

    Raises
    ------
    ModelerError
        Where nothing answers there, or no service of this kind.
    """

    def __init__(self, url: str):
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--url {url}: give the address with its scheme, such as http://localhost:3000")
        self.url = url.rstrip("/")
        self.tag = self._ask("GET", "/model", _is_tag)["tag"]

    def answer_in(self, form: str) -> Callable[[Sequence[dict]], list[dict]]:
        """A function that answers rows by sending them in one of `FORMS`."""

        def answer(rows: Sequence[dict]) -> list[dict]:
            parts = [[row] for row in rows] if form == ONE_RECORD else [rows]
            return [given for part in parts for given in self._predict(write_forms(part)[form], len(part))]

        return answer

    def _predict(self, body, rows: int) -> list[dict]:
        content = self._ask("POST", "/predict", _is_answer, json=body)
        if content["model"] != self.tag:
            raise ModelerError(f"{self.url} says it serves {self.tag}, but {content['model']} answered")
        if len(content["predictions"]) != rows:
            raise ModelerError(f"{self.url} gave {len(content['predictions'])} answers to {rows} rows")
        return content["predictions"]

    def _ask(self, method: str, route: str, is_right: Callable[[object], bool], **content) -> dict:
        try:
            answer = requests.request(method, self.url + route, timeout=SECONDS, **content)
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            reason = type(getattr(cause, "reason", cause)).__name__
            raise ModelerError(
                f"{self.url} does not answer ({reason}); start the service, or mend the address"
            ) from None
        try:
            given = answer.json()
        except ValueError:
            given = None
        if answer.status_code != 200 and isinstance(given, dict) and isinstance(given.get("error"), str):
            raise ModelerError(f"{self.url}{route} answered {answer.status_code}: {given['error']}")
        if answer.status_code != 200 or not is_right(given):
            raise ModelerError(
                f"{self.url}{route} answered {answer.status_code} and not as this service does; is it another one?"
            )
        return given


def replay_at_service(url: str) -> tuple[StoredModel, list[str]]:
    """Replay golden rows at a service, in every form that a request may have.

    Returns
    -------
    StoredModel, list of str
        The model of the local store that has the tag which the service reports, and a sentence for every difference.
    """
    service = RemoteService(url)
    model = load_model(service.tag)
    contract, golden = model.read("contract.json"), model.read("golden.json")
    return model, [
        f"{form}, {difference}"
        for form in FORMS
        for difference in replay_golden(golden, contract, service.answer_in(form))
    ]


def _is_tag(content) -> bool:
    return isinstance(content, dict) and re.fullmatch("[^:]+:[^:]+", str(content.get("tag"))) is not None


def _is_answer(content) -> bool:
    if not (isinstance(content, dict) and isinstance(content.get("predictions"), list) and "model" in content):
        return False
    return all(
        isinstance(given, dict) and (_is_class(given) or _is_number(given.get("value")))
        for given in content["predictions"]
    )


def _is_class(given: dict) -> bool:
    probabilities = given.get("probabilities")
    return "label" in given and isinstance(probabilities, dict) and all(map(_is_number, probabilities.values()))


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
