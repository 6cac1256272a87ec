"""What train.ipynb and the gate do with an estimator: encode its input, convert it, score its answers."""

from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.metrics import score_answers

__all__ = ["convert_pipeline", "encode_table", "score_answers"]
