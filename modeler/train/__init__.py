"""What train.ipynb and the gate do with estimators: encode input, compare, convert to a graph, score answers."""

from modeler.train.compare import average_pipelines, choose_estimator, describe_comparison
from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.folds import deal_folds
from modeler.train.metrics import score_answers
from modeler.train.thresholds import choose_threshold, list_thresholds
from modeler.train.trace import trace_columns

__all__ = [
    "average_pipelines",
    "choose_estimator",
    "choose_threshold",
    "convert_pipeline",
    "deal_folds",
    "describe_comparison",
    "encode_table",
    "list_thresholds",
    "score_answers",
    "trace_columns",
]
