"""The prediction service: POST /predict answers rows with the graph of the champion, or of the model `--arg` names."""

import bentoml
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from modeler import did_you_mean
from modeler.contract import used_features
from modeler.graph import Graph
from modeler.store import GRAPH, load_model

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
            return JSONResponse({"error": f"{len(faults)} values cannot be used", "detail": faults}, status_code=400)
        answers = [answer | {"warnings": []} for answer in self.graph.answer(rows)]
        return JSONResponse({"model": self.model.tag, "predictions": answers})


def list_faults(rows: list[dict], contract: dict) -> list[dict]:
    """Every missing, unknown or mistyped value of a request."""
    if not rows:
        return [{"row": None, "field": None, "message": "there are no rows; send at least one", "value": None}]
    used, known = used_features(contract), {feature["name"] for feature in contract["features"]}
    faults = []
    for number, row in enumerate(rows):
        for name in row.keys() - known:
            faults.append(
                {
                    "row": number,
                    "field": name,
                    "message": f"unknown column{did_you_mean(name, known)}",
                    "value": row[name],
                }
            )
        for feature in used:
            name, value = feature["name"], row.get(feature["name"])
            if name not in row:
                faults.append({"row": number, "field": name, "message": "missing column", "value": None})
            elif value is None and not feature["missing"]:
                faults.append(
                    {"row": number, "field": name, "message": "null, which training had none of", "value": None}
                )
            elif value is not None and not _is_a(value, feature["type"]):
                faults.append(
                    {
                        "row": number,
                        "field": name,
                        "message": f"must be {EXPECTED[feature['type']]}",
                        "value": str(value),
                    }
                )
    return faults


def _is_a(value, kind: str) -> bool:
    if isinstance(value, bool) != (kind == "boolean"):
        return False
    return isinstance(value, TYPES[kind]) and (kind != "number" or abs(value) <= 3.4e38)
