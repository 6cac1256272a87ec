"""A peer: FastAPI with the scikit-learn Pipeline from joblib, as most tutorials build it."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI

model = joblib.load(os.environ["BENCH_PIPELINE"])
app = FastAPI()


@app.post("/predict")
def predict(rows: list[dict[str, float]]):
    frame = pd.DataFrame(rows)[model.feature_names_in_].astype("float32")
    return {
        "predictions": [
            {"label": model.classes_[row.argmax()], "probabilities": row.tolist()} for row in model.predict_proba(frame)
        ]
    }
