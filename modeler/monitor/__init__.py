"""After the deployment: the rows that were asked against those of the training, and the answers against what came true."""

from modeler.monitor.compare import compare_rows, count_periods, cut_periods, judge_drift, read_reference
from modeler.monitor.example import make_example
from modeler.monitor.labels import FEWEST_LABELS, read_labels, read_truth, score_labels
from modeler.monitor.rows import open_model, read_log, read_moment
from modeler.monitor.table import read_table

__all__ = [
    "FEWEST_LABELS",
    "compare_rows",
    "count_periods",
    "cut_periods",
    "judge_drift",
    "make_example",
    "open_model",
    "read_labels",
    "read_log",
    "read_moment",
    "read_reference",
    "read_table",
    "read_truth",
    "score_labels",
]
