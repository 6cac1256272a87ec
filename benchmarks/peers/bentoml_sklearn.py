"""A peer: BentoML's own default, a model of bentoml.sklearn.save_model behind an API that takes a DataFrame."""

import bentoml
import pandas as pd


@bentoml.service(workers=2)
class Peer:
    def __init__(self):
        self.model = bentoml.sklearn.load_model("peer:latest")

    @bentoml.api(route="/predict")
    def predict(self, rows: pd.DataFrame, /) -> dict:
        frame = rows[self.model.feature_names_in_].astype("float32")
        return {
            "predictions": [
                {"label": self.model.classes_[row.argmax()], "probabilities": row.tolist()}
                for row in self.model.predict_proba(frame)
            ]
        }
