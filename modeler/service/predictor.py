"""A stored model at work: request bodies in, answers with warnings out."""

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic_core import from_json, to_json

from modeler import ModelerError
from modeler.model.answers import NotFiniteError, decode_answers
from modeler.model.contract import class_key, read_own, used_features
from modeler.model.dates import count_value, name_parts
from modeler.model.golden import replay_golden
from modeler.model.graph import MISSING, Graph
from modeler.model.stored import CONTRACT, GRAPH, StoredModel, load_model
from modeler.service.body import MOST_FAULTS, BodyReader, RequestError, describe_fault, shorten
from modeler.service.explain import Explainer
from modeler.service.openapi import MOST_EXPLAINED, make_example

OUTSIDE_RANGE, UNSEEN_CATEGORY = "outside_range", "unseen_category"
NO_ANSWER = "the model has no finite answer to this row; its values are too far from those of the training"
NO_EXPLANATION = "the model has no finite answer where some of this row's values are mixed with those of a golden row"


class Answer(NamedTuple):
    """An answered request: the JSON text, what the metrics count, and what the prediction log notes."""

    body: bytes
    rows: int
    labels: list[str]
    warnings: list[str]
    read: list[dict]
    answers: list[dict]


def load_predictor(tag: str, max_rows: int) -> "Predictor":
    """Load a model and have it answer its golden rows; whatever is wrong with it is a ModelerError."""
    model = load_model(tag)
    try:
        predictor = Predictor(model, max_rows)
        predictor.check_golden()
    except ModelerError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise ModelerError(f"{model.tag} cannot answer its golden rows: {type(error).__name__}: {error}") from error
    return predictor


class Predictor:
    """Answers requests of at most `max_rows` rows with a model of the store. `since` is when it began to, in UTC."""

    def __init__(self, model: StoredModel, max_rows: int):
        self.tag, self.contract, self.max_rows = model.tag, model.read(CONTRACT), max_rows
        self.since = datetime.now(timezone.utc)
        self._model = model
        self.graph = Graph(model.path / GRAPH, self.contract)
        self.reader = BodyReader(self.contract, max_rows)
        used = used_features(self.contract)
        self.used = [feature["name"] for feature in used]
        self._ranged = [column for feature in used for column in _list_ranges(feature)]
        self._lowest, self._highest = (
            np.array([column[bound] for column in self._ranged], dtype=np.float32) for bound in (1, 2)
        )
        self._known = {
            feature["name"]: {*feature["categories"], *([MISSING] if feature["missing"] else [])}
            for feature in used
            if feature["type"] == "category"
        }

    def answer(self, body: bytes) -> Answer:
        """Answer a request; a body that cannot be used, or a row without a finite answer, is a RequestError."""
        rows = self.reader.read(body)
        return self._write(rows, *self._predict(rows))

    def explain(self, body: bytes) -> Answer:
        """Answer a request of at most `MOST_EXPLAINED` rows as `answer` does, and say what each column contributes."""
        rows = self.reader.read(body, MOST_EXPLAINED)
        answers, kinds = self._predict(rows)
        if lost := self._explainer.explain(self.graph.encode(rows), answers):
            raise _refuse_rows(lost, len(rows), "explanation", NO_EXPLANATION)
        return self._write(rows, answers, kinds)

    def _write(self, rows: list[dict], answers: list[dict], kinds: list[str]) -> Answer:
        labels = [class_key(answer["label"]) if "label" in answer else "" for answer in answers]
        told = to_json({"model": self.tag, "predictions": answers})
        return Answer(told, len(answers), labels, kinds, rows, answers)

    def check_golden(self) -> None:
        """Raise a ModelerError unless the golden rows are answered as the estimator answered them."""
        golden, reader = self._model.read("golden.json"), BodyReader(self.contract, sys.maxsize)
        differences = replay_golden(golden, self.contract, lambda rows: self._predict(reader.read(to_json(rows)))[0])
        if differences:
            raise ModelerError(f"{self.tag} differs from its golden rows: {differences[0]}")

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.graph, self._model.read("golden.json")["rows"])

    @property
    def example(self) -> dict:
        """The answer to the contract's example."""
        return from_json(self.answer(to_json(make_example(self.contract))).body)

    def count_warnings(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """How many warnings each row gets, from the graph's inputs alone."""
        counts = np.zeros(len(next(iter(inputs.values()))), dtype=np.int64)
        if self._ranged:
            counts += ((inputs["numbers"] < self._lowest) | (inputs["numbers"] > self._highest)).sum(axis=1)
        for column, known in enumerate(self._known.values()):
            named = inputs["categories"][:, column].tolist()
            if not known.issuperset(named):  # one look at all of them, since they are known as a rule
                counts += np.array([category not in known for category in named], dtype=bool)
        return counts

    def describe(self) -> dict:
        """What is known of the model."""
        kept = {name: self._model.read(f"{name}.json") for name in ("metrics", "provenance", "verdict")}
        kept |= {"warnings": kept["verdict"].get("warnings", []), "reference": self._model.read_reference()}
        return {"tag": self.tag, "since": self.since.isoformat(timespec="seconds"), "contract": self.contract, **kept}

    def list_examples(self) -> dict:
        """The golden rows without the columns that are not used: real rows that training did not see."""
        names = [feature["name"] for feature in used_features(self.contract)]
        rows = self._model.read("golden.json")["rows"]
        return {"model": self.tag, "rows": [{name: row[name] for name in names} for row in rows]}

    def read_page(self, name: str) -> bytes:
        """The model card or an executed notebook as HTML."""
        try:
            return read_own(self._model.path / f"{name}.html")
        except OSError:
            sentence = f"{self.tag} has no readable {name}.html; a warning at /model may say why; retrain to get one"
            raise RequestError(404, sentence) from None

    def _predict(self, rows: Sequence[dict]) -> tuple[list[dict], list[str]]:
        """Answers with their warnings, and the kind of each warning."""
        inputs = self.graph.encode(rows)
        try:
            answers, kinds = decode_answers(self.graph.run(inputs), self.contract), []
        except NotFiniteError as error:
            raise _refuse_rows(error.rows, len(rows), "answer", NO_ANSWER) from None
        for answer in answers:
            answer["warnings"] = []
        for row, kind, warning in self._list_warnings(rows, inputs):
            answers[row]["warnings"].append(warning)
            kinds.append(kind)
        return answers, kinds

    def _list_warnings(self, rows: Sequence[dict], inputs: dict[str, np.ndarray]):
        """Yield row, kind and sentence for each value unlike those of the training."""
        if self._ranged:
            numbers = inputs["numbers"]
            for row, column in np.argwhere((numbers < self._lowest) | (numbers > self._highest)).tolist():
                feature = self._ranged[column][0]
                name = feature["name"]
                given, low, high = (_show(value) for value in (rows[row][name], feature["min"], feature["max"]))
                yield row, OUTSIDE_RANGE, f"{name} {given} is outside the training range {low} to {high}"
        for column, (name, known) in enumerate(self._known.items()):
            for row, category in enumerate(inputs["categories"][:, column]):
                if category not in known:
                    yield row, UNSEEN_CATEGORY, f"{name} {shorten(category)!r} was not seen in training"


def _refuse_rows(lost: Sequence[int], rows: int, what: str, message: str) -> RequestError:
    faults = [describe_fault(message, row) for row in lost[:MOST_FAULTS]]
    return RequestError(400, f"{len(lost)} of {rows} rows have no finite {what}", faults)


def _list_ranges(feature: dict) -> list[tuple[dict, float, float]]:
    """Each number that the model sees of a feature, with its range in training; of a date only the days have one."""
    if feature["type"] == "date":
        low, high = (count_value(feature[bound], feature)[0] for bound in ("min", "max"))
        return [(feature, low, high), *[(feature, -np.inf, np.inf)] * (len(name_parts(feature)) - 1)]
    if feature["type"] == "category":
        return []
    return [(feature, feature.get("min", -np.inf), feature.get("max", np.inf))]


def _show(value: str | float) -> str:
    return shorten(value) if isinstance(value, str) else f"{value:.10g}"
