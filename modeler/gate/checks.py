"""The checks of a candidate by itself, each with its number, its threshold and a sentence."""

from dataclasses import dataclass

import numpy as np

from modeler import ModelerError
from modeler.data.derive import THRESHOLD, derive_contract
from modeler.data.rows import list_dealing
from modeler.gate.candidate import Candidate
from modeler.model.answers import SAME_ANSWER, describe_differences
from modeler.model.contract import class_key, read_split
from modeler.model.golden import replay_golden
from modeler.model.graph import Graph
from modeler.train.interval import least_coverage, score_intervals
from modeler.train.metrics import Gain, compare_values, measure_interval, resample_roc_auc, weigh_better

SAME_METRIC = 1e-6  # what train.ipynb wrote against what the gate computed
BETTER = "better is one interval wholly above 0 and a gain in the other"


@dataclass(frozen=True)
class Check:
    """One check with its number, its threshold and a sentence. `value` is None where nothing was measured."""

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    sentence: str


def check_contract(candidate: Candidate, told: dict) -> Check:
    """Does the contract say of the data what the data say? Which columns are used is the notebook's to choose."""
    contract, table = candidate.contract, candidate.table
    training, positive = table.frame[~candidate.heldout], told.get("positive", "")
    holdout, split_by, split_time = list_dealing(told)
    derived = derive_contract(table, training, 0, holdout, split_by, positive, split_time=split_time)
    if "positive" in derived["target"]:
        derived["target"]["threshold"] = _expect_threshold(contract["target"], told.get("threshold", THRESHOLD))
    if told.get("interval"):
        derived["target"]["interval"] = told["interval"]
    differing = [] if contract["target"] == derived["target"] else ["target"]
    for ours, theirs in zip(contract["features"], derived["features"], strict=True):
        both_used = ours["used"] and theirs["used"]
        facts = ["name", "type", "missing", "time", "format"]
        facts += ["min", "max"] if both_used or ours["type"] == "number" else []
        facts += ["categories", "example"] if both_used else []
        differing += [f"{fact} of {theirs['name']}" for fact in facts if ours.get(fact) != theirs.get(fact)]
    sentence = "the contract says of every column and of the target what the data and the parameters say"
    if differing:
        sentence = f"the contract is not that of the data and parameters: {', '.join(differing[:5])} differ"
    return Check("contract", not differing, float(len(differing)), 0.0, sentence)


def _expect_threshold(target: dict, told: str | float) -> float:
    """The threshold that was told or, where train.ipynb chose it by a rule, its own: any number from 0 to 1."""
    try:
        return float(told)
    except ValueError:
        return target["threshold"] if 0 <= target["threshold"] <= 1 else THRESHOLD


def compare_answers(answers: list[dict], expected: list[dict], contract: dict) -> Check:
    differences = list(describe_differences(answers, expected, contract, SAME_ANSWER))
    sentence = f"graph and estimator give the same answer to all {len(expected)} raw held-out rows"
    if differences:
        sentence = (
            f"graph and estimator differ in {len(differences)} of {len(expected)} raw held-out rows: {differences[0]}"
        )
    return Check("graph equals estimator", not differences, float(len(differences)), 0.0, sentence)


def compare_metrics(computed: dict, written: dict) -> Check:
    differing = [
        name
        for name in sorted(computed.keys() | written.keys())
        if (computed.get(name) is None) != (written.get(name) is None)
        or (computed.get(name) is not None and not abs(computed[name] - written[name]) <= SAME_METRIC)
    ]
    largest = max((abs((computed.get(name) or 0) - (written.get(name) or 0)) for name in differing), default=0.0)
    sentence = f"the metrics train.ipynb wrote are those of the graph on the raw held-out rows, to {SAME_METRIC:g}"
    if differing:
        worst = max(differing, key=lambda name: abs((computed.get(name) or 0) - (written.get(name) or 0)))
        sentence = (
            f"train.ipynb wrote {worst} {_show(written.get(worst))}, but the graph has {_show(computed.get(worst))} on the raw "
            f"held-out rows ({len(differing)} metrics differ): the notebook judged something else than what would be served, "
            "for example data that it prepared outside the Pipeline"
        )
    return Check("metrics are the graph's own", not differing, largest, SAME_METRIC, sentence)


def replay(graph: Graph, golden: dict, contract: dict) -> Check:
    differences = replay_golden(golden, contract, graph.answer)
    sentence = f"the graph answers the {len(golden['rows'])} golden rows like the estimator, singly and as a batch"
    if differences:
        sentence = f"the graph does not answer the golden rows like the estimator: {differences[0]}"
    return Check("golden rows", not differences, float(len(differences)), 0.0, sentence)


def beat_dummy(candidate: Candidate) -> Check:
    """Is the candidate clearly better than a dummy, which answers always alike?

    Classes: its ROC AUC is above the dummy's 0.5 by the whole 95 % interval of a stratified bootstrap. Values: by the rule of
    `compare_values`, against the training mean or median, whichever has the smaller error on the held-out rows.
    """
    target, answers, truth = candidate.contract["target"], candidate.answers, candidate.truth
    if not target["classes"]:
        return _beat_constant(candidate)
    keys, held = [class_key(label) for label in target["classes"]], {class_key(label) for label in truth}
    if absent := [key for key in keys if key not in held]:
        raise ModelerError(f"no held-out row is {' or '.join(absent)}; raise holdout or bring more rows")
    low, high = measure_interval(resample_roc_auc([answers], truth, target)[0] - 0.5)
    sentence = f"roc_auc is {'' if low > 0 else 'not clearly '}above a dummy's: 95 % interval of the gain {low:.3f} to {high:.3f}"
    return Check("better than a dummy", low > 0, low, 0.0, sentence)


def check_interval(candidate: Candidate) -> list[Check]:
    """Do the intervals hold as many of the held-out true values as they say? No check where there are none.

    Rows that were split by a column are not independent of each other within a group, so groups are counted instead.
    """
    contract, frame, heldout = candidate.contract, candidate.table.frame, candidate.heldout
    if "interval" not in contract["target"]:
        return []
    level, by = contract["target"]["interval"], read_split(contract)["by"]
    trained, held = (frame[rows][by].nunique() if by else rows.sum() for rows in (~heldout, heldout))
    coverage = score_intervals(candidate.answers, candidate.truth)["coverage"]
    least = least_coverage(level, int(trained), int(held))
    sentence = (
        f"{100 * coverage:.1f} % of the {len(candidate.truth)} held-out true values lie within their intervals of "
        f"{100 * level:g} %; chance explains {100 * least:.1f} % or more"
    )
    return [Check("interval", coverage >= least, coverage, least, sentence)]


def list_known(candidate: Candidate) -> np.ndarray:
    """The target's values in the training rows."""
    return candidate.table.frame.loc[~candidate.heldout, candidate.contract["target"]["name"]].to_numpy(dtype=float)


def list_values(answers: list[dict]) -> list[float]:
    return [answer["value"] for answer in answers]


def describe_gains(gains: list[Gain], whose: str) -> str:
    """Every measure with its figures and its interval."""
    return "; ".join(
        f"{gain.measure} {gain.ours:.4g} against {whose} {gain.theirs:.4g}, 95 % interval of the {gain.unit} "
        f"{gain.low:.3f} to {gain.high:.3f}"
        for gain in gains
    )


def _beat_constant(candidate: Candidate) -> Check:
    known, truth, values = list_known(candidate), candidate.truth, list_values(candidate.answers)
    compared = [
        compare_values(values, [constant] * len(truth), truth, known) for constant in (known.mean(), np.median(known))
    ]
    gains = min(compared, key=lambda gains: gains[1].theirs)
    value = weigh_better(gains)
    sentence = (
        f"the answers are {'' if value > 0 else 'not '}clearly better than a dummy's: {describe_gains(gains, 'its')} "
        f"({BETTER})"
    )
    return Check("better than a dummy", value > 0, value, 0.0, sentence)


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"


def explain_error(error: Exception) -> str:
    """Why a check could not be made."""
    return str(error) if isinstance(error, ModelerError) else f"{type(error).__name__}: {error}"
