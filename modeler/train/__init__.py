"""What train.ipynb and the gate both do with an estimator: encode for it, convert it, answer with it, score it."""

from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.metrics import score_answers

__all__ = ["convert_pipeline", "encode_table", "score_answers"]
