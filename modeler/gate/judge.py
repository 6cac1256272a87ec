"""The gate between a candidate and the store. It trusts no notebook: every figure is computed again from the raw data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modeler.data.tables import Table
from modeler.gate.bounds import check_bound
from modeler.gate.callers import check_callers
from modeler.gate.candidate import Candidate, read_candidate
from modeler.gate.champion import challenge_champion
from modeler.gate.checks import (
    Check,
    beat_dummy,
    check_contract,
    check_interval,
    compare_answers,
    compare_metrics,
    explain_error,
    replay,
)
from modeler.gate.record import check_record
from modeler.gate.reference import write_reference
from modeler.gate.warnings import list_warnings
from modeler.model.contract import read_json
from modeler.model.stored import StoredModel
from modeler.train.confidence import measure_intervals
from modeler.train.metrics import score_answers


@dataclass(frozen=True)
class Judgement:
    """What the gate found: its checks, the candidate's metrics on the hold-out, and the champion's on the rows of their
    comparison; no metrics where they could not be computed. `intervals` are the 95 % intervals of the candidate's metrics,
    `warnings` refuse nothing."""

    checks: list[Check]
    metrics: dict[str, float | None]
    champion_metrics: dict[str, float | None] | None = None
    warnings: list[dict] = field(default_factory=list)
    intervals: dict[str, list[float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        return [check.sentence for check in self.checks if not check.passed]


def judge_candidate(
    run: Path,
    table: Table,
    told: dict,
    floors: dict[str, float],
    ceilings: dict[str, float],
    champion: StoredModel | None = None,
    promote_if: str = "not-worse",
    allow_contract_change: bool = False,
    allow_lower_score: bool = False,
) -> Judgement:
    """Judge the model in a run's folder on the raw held-out rows, and write golden.json and reference.json there.

    A check that could not be made counts as failed and says why.

    Parameters
    ----------
    run
        The folder with contract.json, model.onnx, model.skops and metrics.json.
    table
        The data, read by the caller and not by a notebook.
    told
        The notebooks' parameters; `holdout`, `split_by`, `positive`, `threshold` and `interval` are held to.
    promote_if
        "not-worse": no 95 % interval of a gain, in ROC AUC or of values in rank correlation and error, may lie wholly below
        -0.01; "better": one must lie wholly above 0, and the other measure gain too.
    allow_lower_score
        Pass a score clearly lower than the champion's was when it was promoted.
    """
    try:
        candidate = read_candidate(run, table, told)
    except Exception as error:  # fail closed, whatever a notebook left behind
        sentence = f"the candidate cannot be judged: {explain_error(error)}"
        return Judgement([Check("candidate", False, None, None, sentence)], {})
    checks, metrics, theirs, warnings, intervals = [], {}, {}, [], {}

    rule = promote_if, allow_contract_change
    _run_check(checks, "contract", lambda: [check_contract(candidate, told)])
    _run_check(checks, "same answers", lambda: _check_answers(run, candidate, metrics, intervals))
    for bounds, sign in ((floors, 1), (ceilings, -1)):
        for name, bound in bounds.items():
            _run_check(checks, f"bound of {name}", lambda: [check_bound(name, metrics.get(name), bound, sign)])
    _run_check(checks, "interval", lambda: check_interval(candidate))
    _run_check(checks, "better than a dummy", lambda: [beat_dummy(candidate)])
    _run_check(checks, "against the champion", lambda: _challenge(champion, candidate, *rule, theirs))
    _run_check(checks, "as good as it was", lambda: [check_record(champion, candidate, theirs, allow_lower_score)])
    _run_check(checks, "callers of the champion", lambda: [check_callers(champion, candidate, allow_contract_change)])
    _run_check(checks, "reference", lambda: write_reference(run, candidate) or [])
    _run_check(checks, "warnings", lambda: warnings.extend(list_warnings(candidate, told)) or [])
    return Judgement(checks, metrics, theirs or None, warnings, intervals)


def _run_check(checks: list[Check], name: str, make: Callable[[], list[Check]]) -> None:
    try:
        checks.extend(make())
    except Exception as error:  # fail closed, as above
        checks.append(Check(name, False, None, None, f"{name} could not be checked: {explain_error(error)}"))


def _challenge(champion: StoredModel | None, candidate: Candidate, promote_if: str, allowed: bool, theirs: dict):
    """The check against the champion. Fills in `theirs`, its metrics."""
    check, scores = challenge_champion(champion, candidate, promote_if, allowed)
    theirs.update(scores or {})
    return [check]


def _check_answers(run: Path, candidate: Candidate, metrics: dict, intervals: dict) -> list[Check]:
    """Are graph, estimator and metrics.json at one? Fills in `metrics` and their `intervals`."""
    contract, written = candidate.contract, read_json(run / "metrics.json")
    written.pop("cv", None)  # how the estimator was chosen, on training rows
    metrics.update(score_answers(candidate.answers, candidate.truth, contract["target"]))
    intervals.update(measure_intervals(candidate.answers, candidate.truth, contract["target"]))
    return [
        compare_answers(candidate.answers, candidate.expected, contract),
        compare_metrics(metrics, written),
        replay(candidate.graph, candidate.golden, contract),
    ]
