"""A peer: the article's Flask app, its model loaded once instead of fitted at every request."""

import os

import joblib
import pandas as pd
from flask import Flask, jsonify, request

model = joblib.load(os.environ["BENCH_PIPELINE"])
app = Flask(__name__)


@app.route("/predict", methods=["POST"])
def predict():
    frame = pd.DataFrame(request.get_json())[model.feature_names_in_].astype("float32")
    answers = [
        {"label": model.classes_[row.argmax()], "probabilities": row.tolist()} for row in model.predict_proba(frame)
    ]
    return jsonify(predictions=answers)
