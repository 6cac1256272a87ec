"""The prediction service: POST /predict answers rows with the graph of the champion, or of the model `--arg` names."""

import json

import bentoml
from pydantic import BaseModel, Field
from starlette.responses import Response

from modeler import did_you_mean
from modeler.contract import used_features
from modeler.graph import Graph
from modeler.store import GRAPH, load_model

LARGEST = 3.4028234663852886e38  # a float32 holds
Value = bool | int | float | str | None
EXPECTED = {"number": "a number", "boolean": "true or false", "category": "a text"}
TYPES = {"number": (int, float), "boolean": bool, "category": str}


class Arguments(BaseModel):
    """What `bentoml serve --arg` takes."""

    model: str = Field("breast_cancer", description="NAME or NAME:VERSION of the model to serve")


arguments = bentoml.use_arguments(Arguments)


@bentoml.service(name=arguments.model.partition(":")[0])
class Prediction:
    """Answers rows of the data a model was trained on."""

    def __init__(self):
        self.model = load_model(arguments.model)
        self.contract = self.model.read("contract.json")
        self.graph = Graph(self.model.path / GRAPH, self.contract)

    @bentoml.api(route="/predict")
    async def predict(self, rows: list[dict[str, Value]], /):
        """Answer records: one JSON object a row, from column name to value."""
        if faults := list_faults(rows, self.contract):
            return _answer_json({"error": f"{len(faults)} values cannot be used", "detail": faults}, 400)
        answers = [answer | {"warnings": []} for answer in self.graph.answer(rows)]
        return _answer_json({"model": self.model.tag, "predictions": answers})


def list_faults(rows: list[dict], contract: dict) -> list[dict]:
    """Every missing, unknown or mistyped value of a request."""
    if not rows:
        return [_describe_fault(None, None, "there are no rows; send at least one")]
    used, known = used_features(contract), {feature["name"] for feature in contract["features"]}
    faults = []
    for number, row in enumerate(rows):
        for name in row.keys() - known:
            faults.append(_describe_fault(number, name, f"unknown column{did_you_mean(name, known)}", row[name]))
        for feature in used:
            name, value = feature["name"], row.get(feature["name"])
            if name not in row:
                faults.append(_describe_fault(number, name, "missing column"))
            elif value is None and not feature["missing"]:
                faults.append(_describe_fault(number, name, "null, which training had none of"))
            elif value is not None and not _is_a(value, feature["type"]):
                faults.append(_describe_fault(number, name, f"must be {EXPECTED[feature['type']]}", value))
    return faults


def _describe_fault(row: int | None, field: str | None, message: str, value: Value = None) -> dict:
    strict = value is None or isinstance(value, bool | str) or abs(value) <= LARGEST
    return {"row": row, "field": field, "message": message, "value": value if strict else str(value)}


def _answer_json(content: dict, status: int = 200) -> Response:
    """Strict JSON in plain ASCII, which any text of a request survives."""
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")


def _is_a(value: Value, kind: str) -> bool:
    if isinstance(value, bool) != (kind == "boolean"):
        return False
    return isinstance(value, TYPES[kind]) and (kind != "number" or abs(value) <= LARGEST)
