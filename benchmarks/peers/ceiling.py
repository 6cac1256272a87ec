"""The ceiling: a bare Starlette handler that feeds the same graph, with no validation, metrics or logs."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

folder = Path(os.environ["BENCH_MODEL"])
contract = json.loads((folder / "contract.json").read_text())
names = [feature["name"] for feature in contract["features"] if feature["used"]]
classes = contract["target"]["classes"]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)


async def predict(request):
    rows = orjson.loads(await request.body())
    numbers = np.array([[row[name] for name in names] for row in rows], dtype=np.float32)
    output = session.run(["probabilities"], {"numbers": numbers})[0]
    answers = [{"label": classes[row.argmax()], "probabilities": row.tolist()} for row in output]
    return Response(orjson.dumps({"predictions": answers}), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
