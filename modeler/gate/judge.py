"""The gate between a candidate and the store. It trusts no notebook: every figure is computed again from the raw data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeler.data.tables import Table
from modeler.gate.bounds import check_bound
from modeler.gate.callers import check_callers
from modeler.gate.candidate import read_candidate
from modeler.gate.champion import challenge_champion
from modeler.gate.checks import (
    Check,
    beat_dummy,
    check_contract,
    compare_answers,
    compare_metrics,
    explain_error,
    replay,
)
from modeler.model.contract import read_json
from modeler.model.stored import StoredModel
from modeler.train.metrics import score_answers


@dataclass(frozen=True)
class Judgement:
    """What the gate found: its checks, the candidate's metrics on the hold-out where they could be computed, and the
    champion's on the rows they were compared on, where it answered them."""

    checks: list[Check]
    metrics: dict[str, float | None]
    champion_metrics: dict[str, float | None] | None = None

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
) -> Judgement:
    """Judge the model in a run's folder on the raw held-out rows, and write golden.json there.

    Parameters
    ----------
    run
        The folder with contract.json, model.onnx, model.skops and metrics.json.
    table
        The data, read by the caller and not by a notebook.
    told
        The parameters the notebooks were given: `holdout`, `split_by`, `positive` and `threshold` are held to.
    floors, ceilings
        Bounds of the metrics, by name.
    champion
        The model that the candidate is to replace; None where there is none.
    promote_if
        "not-worse": the 95 % interval of the primary metric's difference must not lie wholly below -0.01;
        "better": it must lie wholly above 0.
    allow_contract_change
        Whether callers of the champion may break.

    Returns
    -------
    Judgement
        A check that could not be made counts as failed and says why.
    """
    try:
        candidate = read_candidate(run, table, told)
    except Exception as error:  # fail closed, whatever a notebook left behind
        sentence = f"the candidate cannot be judged: {explain_error(error)}"
        return Judgement([Check("candidate", False, None, None, sentence)], {})
    checks, metrics, theirs, contract = [], {}, {}, candidate.contract

    def run_check(name: str, make: Callable[[], list[Check]]) -> None:
        try:
            checks.extend(make())
        except Exception as error:  # fail closed, as above
            sentence = f"{name} could not be checked: {explain_error(error)}"
            checks.append(Check(name, False, None, None, sentence))

    def check_answers() -> list[Check]:
        metrics.update(score_answers(candidate.answers, candidate.truth, contract["target"]))
        return [
            compare_answers(candidate.answers, candidate.expected, contract),
            compare_metrics(metrics, read_json(run / "metrics.json")),
            replay(candidate.graph, candidate.golden, contract),
        ]

    def check_champion() -> list[Check]:
        check, scores = challenge_champion(champion, candidate, promote_if, allow_contract_change)
        theirs.update(scores or {})
        return [check]

    run_check("contract", lambda: [check_contract(candidate, told)])
    run_check("same answers", check_answers)
    for bounds, sign in ((floors, 1), (ceilings, -1)):
        for name, bound in bounds.items():
            run_check(f"bound of {name}", lambda: [check_bound(name, metrics.get(name), bound, sign)])
    run_check("better than a dummy", lambda: [beat_dummy(candidate)])
    run_check("against the champion", check_champion)
    run_check("callers of the champion", lambda: [check_callers(champion, candidate, allow_contract_change)])
    return Judgement(checks, metrics, theirs or None)
