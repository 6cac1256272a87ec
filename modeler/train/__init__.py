"""What train.ipynb and the gate do with estimators: encode input, compare, convert to a graph, score answers."""

from modeler.train.boosters import list_boosters, make_booster
from modeler.train.calibrate import fit_calibrated, guess_rows
from modeler.train.choices import balance_classes, check_class_weight, check_transform, takes_weights
from modeler.train.compare import average_pipelines, choose_estimator, describe_comparison
from modeler.train.estimator import answer_with_estimator, convert_pipeline, encode_table
from modeler.train.folds import deal_folds
from modeler.train.interval import add_interval
from modeler.train.metrics import score_answers
from modeler.train.thresholds import choose_threshold, list_thresholds
from modeler.train.trace import trace_columns

__all__ = [
    "add_interval",
    "answer_with_estimator",
    "average_pipelines",
    "balance_classes",
    "check_class_weight",
    "check_transform",
    "choose_estimator",
    "choose_threshold",
    "convert_pipeline",
    "deal_folds",
    "describe_comparison",
    "encode_table",
    "fit_calibrated",
    "guess_rows",
    "list_boosters",
    "list_thresholds",
    "make_booster",
    "score_answers",
    "takes_weights",
    "trace_columns",
]
