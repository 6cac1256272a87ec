"""The gate between a candidate and the store. It trusts no notebook: every figure is computed again from the raw data."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modeler import ModelerError
from modeler.champion import (
    MARGIN,
    Candidate,
    compare_on_rows,
    compare_with_record,
    describe_other_question,
    list_breaking_changes,
)
from modeler.contract import (
    THRESHOLD,
    check_table,
    class_key,
    derive_contract,
    list_classes,
    read_contract,
    read_json,
    write_json,
)
from modeler.data import Table, raw_records, split_rows
from modeler.golden import choose_golden, replay_golden
from modeler.graph import SAME_ANSWER, Graph, decode_answers, describe_differences, encode_table
from modeler.metrics import PRIMARY, measure_interval, resample_primary, score_answers
from modeler.store import CONTRACT, StoredModel, content_version

SAME_METRIC = 1e-6  # what train.ipynb wrote against what the gate computed
TRUSTED = ("sklearn.", "numpy.")  # modules whose types model.skops may hold: they run no code of others


@dataclass(frozen=True)
class Check:
    """One check with its number, its threshold and a sentence. `value` is None where nothing was measured."""

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    sentence: str


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
    checks, metrics, champion_metrics = [], {}, None

    def run_check(name: str, make: Callable[[], list[Check]]) -> None:
        try:
            made = make()
        except Exception as error:  # fail closed, whatever a notebook left behind
            made = [Check(name, False, None, None, f"{name} could not be checked: {_explain(error)}")]
        checks.extend(made)

    def check_answers() -> list[Check]:
        nonlocal metrics
        metrics = score_answers(answers, truth, contract["target"])
        return [
            _compare_answers(answers, expected, contract),
            _compare_metrics(metrics, read_json(run / "metrics.json")),
            _replay(graph, golden, contract),
        ]

    def check_champion() -> list[Check]:
        nonlocal champion_metrics
        candidate = Candidate(version, contract, table, heldout, records, truth, answers)
        check, champion_metrics = _challenge_champion(champion, candidate, promote_if, allow_contract_change)
        return [check]

    try:
        contract = read_contract(run / "contract.json")
        heldout = _deal_rows(table, contract, told)
        graph = Graph(run / "model.onnx", contract)
        version, estimator = content_version(run), load_estimator(run / "model.skops")
        rows = table.frame[heldout]
        truth, records = rows[table.target].tolist(), raw_records(rows.drop(columns=table.target))
        answers, expected = graph.answer(records), answer_with_estimator(estimator, rows, contract)
        golden = _make_golden(records, expected, truth, contract)
        write_json(run / "golden.json", golden)
    except Exception as error:  # fail closed, as above
        return Judgement(
            [Check("candidate", False, None, None, f"the candidate cannot be judged: {_explain(error)}")], {}
        )

    run_check("contract", lambda: [_check_contract(contract, table, heldout, told)])
    run_check("same answers", check_answers)
    for bounds, sign in ((floors, 1), (ceilings, -1)):
        for name, bound in bounds.items():
            run_check(
                f"bound of {name}",
                lambda name=name, bound=bound, sign=sign: [_check_bound(name, metrics.get(name), bound, sign)],
            )
    run_check("better than a dummy", lambda: [_beat_dummy(answers, truth, table, heldout, contract)])
    run_check("against the champion", check_champion)
    run_check("callers of the champion", lambda: [_check_callers(champion, version, contract, allow_contract_change)])
    return Judgement(checks, metrics, champion_metrics)


def load_estimator(path: Path):
    """Load model.skops, which may hold types of scikit-learn and numpy alone.

    Raises
    ------
    ModelerError
        When it holds a type of any other module.
    """
    import skops.io

    try:
        foreign = skops.io.get_untrusted_types(file=path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelerError(f"{path.name} cannot be read: {error}") from None
    if unknown := [name for name in foreign if not name.startswith(TRUSTED)]:
        raise ModelerError(f"{path.name} holds {', '.join(unknown)}; only types of scikit-learn and numpy are loaded")
    return skops.io.load(path, trusted=foreign)


def answer_with_estimator(estimator, frame, contract: dict) -> list[dict]:
    """Answer raw rows with the scikit-learn Pipeline."""
    X = encode_table(frame, contract)
    output = estimator.predict_proba(X) if contract["target"]["classes"] else estimator.predict(X)
    return decode_answers(output, contract)


def _deal_rows(table: Table, contract: dict, told: dict) -> np.ndarray:
    holdout, split_by = told["holdout"], told["split_by"]
    target = contract["target"]
    if target["name"] != table.target or contract["task"] != table.task:
        raise ModelerError(
            f"the contract is a {contract['task']} of {target['name']!r}, the data's target is {table.target!r}"
        )
    if target["classes"] != list_classes(table):
        raise ModelerError(f"the contract's classes {target['classes']} are not those of the data")
    if contract["holdout"] != {"share": holdout, "split_by": split_by or None}:
        raise ModelerError(
            f"the contract deals rows by {contract['holdout']}, the pipeline was told {holdout} and {split_by or None}"
        )
    check_table(table, contract)
    heldout = split_rows(table.frame, holdout, split_by)
    if not heldout.any() or heldout.all():
        raise ModelerError(f"{heldout.sum()} of {len(heldout)} rows are held out; change holdout or bring more rows")
    return heldout


def _check_contract(contract: dict, table: Table, heldout: np.ndarray, told: dict) -> Check:
    """Does the contract say of the data what the data say? Which columns are used is the notebook's to choose."""
    dealt = {"holdout": told["holdout"], "split_by": told["split_by"]}
    derived = derive_contract(
        table, table.frame[~heldout], min_association=0, positive=told.get("positive", ""), **dealt
    )
    if "positive" in derived["target"]:
        derived["target"]["threshold"] = told.get("threshold", THRESHOLD)
    differing = [] if contract["target"] == derived["target"] else ["target"]
    for ours, theirs in zip(contract["features"], derived["features"], strict=True):
        both_used = ours["used"] and theirs["used"]
        facts = ["name", "type", "missing", "min", "max"] + ["categories", "example"] * both_used
        differing += [f"{fact} of {theirs['name']}" for fact in facts if ours.get(fact) != theirs.get(fact)]
    sentence = "the contract says of every column and of the target what the data and the parameters say"
    if differing:
        sentence = f"the contract is not that of the data and parameters: {', '.join(differing[:5])} differ"
    return Check("contract", not differing, float(len(differing)), 0.0, sentence)


def _make_golden(records: list[dict], expected: list[dict], truth: list, contract: dict) -> dict:
    classes = contract["target"]["classes"]
    chosen = choose_golden([class_key(label) if classes else "" for label in truth])
    return {"rows": [records[i] for i in chosen], "answers": [expected[i] for i in chosen]}


def _compare_answers(answers: list[dict], expected: list[dict], contract: dict) -> Check:
    differences = list(describe_differences(answers, expected, contract, SAME_ANSWER))
    sentence = f"graph and estimator give the same answer to all {len(expected)} raw held-out rows"
    if differences:
        sentence = (
            f"graph and estimator differ in {len(differences)} of {len(expected)} raw held-out rows: {differences[0]}"
        )
    return Check("graph equals estimator", not differences, float(len(differences)), 0.0, sentence)


def _compare_metrics(computed: dict, written: dict) -> Check:
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


def _replay(graph: Graph, golden: dict, contract: dict) -> Check:
    differences = replay_golden(golden, contract, graph.answer)
    sentence = f"the graph answers the {len(golden['rows'])} golden rows like the estimator, singly and as a batch"
    if differences:
        sentence = f"the graph does not answer the golden rows like the estimator: {differences[0]}"
    return Check("golden rows", not differences, float(len(differences)), 0.0, sentence)


def _check_bound(name: str, value: float | None, bound: float, sign: int) -> Check:
    kind, side = ("floor", "below") if sign > 0 else ("ceiling", "above")
    if value is None:
        return Check(f"{kind} of {name}", False, None, bound, f"{name} could not be computed on the held-out rows")
    passed = sign * (value - bound) >= 0
    sentence = (
        f"{name} {value:.4f} keeps the {kind} {bound:g}"
        if passed
        else f"{name} {value:.4f} is {side} its {kind} {bound:g}"
    )
    return Check(f"{kind} of {name}", passed, value, bound, sentence)


def _beat_dummy(answers: list[dict], truth: list, table: Table, heldout: np.ndarray, contract: dict) -> Check:
    """Is the primary metric above a dummy's by the whole 95 % interval of a stratified bootstrap?

    A dummy that answers always alike has ROC AUC 0.5; for R² it answers the training mean.
    """
    target, metric = contract["target"], PRIMARY[contract["task"]]
    if target["classes"]:
        keys, held = [class_key(label) for label in target["classes"]], {class_key(label) for label in truth}
        if absent := [key for key in keys if key not in held]:
            raise ModelerError(f"no held-out row is {' or '.join(absent)}; raise holdout or bring more rows")
        gains = resample_primary([answers], truth, target)[0] - 0.5
    else:
        dummy = [{"value": table.frame.loc[~heldout, table.target].mean()}] * len(truth)
        gains = np.subtract(*resample_primary([answers, dummy], truth, target))
    low, high = measure_interval(gains)
    sentence = f"{metric} is {'' if low > 0 else 'not clearly '}above a dummy's: 95 % interval of the gain {low:.3f} to {high:.3f}"
    return Check("better than a dummy", low > 0, low, 0.0, sentence)


def _challenge_champion(
    champion: StoredModel | None, candidate: Candidate, promote_if: str, allowed: bool
) -> tuple[Check, dict[str, float | None] | None]:
    """Is the candidate not clearly worse, or clearly better, than the champion? Its check, and the champion's metrics.

    Where `allowed`, a champion that cannot answer today's rows is compared by the score that it was stored with. One of
    another task or other classes cannot be compared at all; then only "not-worse" can pass.
    """
    better = promote_if == "better"
    name, threshold = ("better than the champion", 0.0) if better else ("not worse than the champion", -MARGIN)
    if champion is None:
        return Check(name, True, None, threshold, "there is no champion to compare with"), None
    if candidate.version == champion.version:  # which may be damaged: then the candidate mends it
        metrics = score_answers(candidate.answers, candidate.truth, candidate.contract["target"])
        return Check(name, True, 0.0, threshold, "the candidate is the champion itself"), metrics
    if other := describe_other_question(champion.read(CONTRACT), candidate.contract):
        sentence = f"nothing could be compared with the champion: {other}"
        if not allowed:
            sentence += "; --allow-contract-change would promote the candidate all the same"
        elif better:
            sentence += "; so it cannot be shown to be better, only --promote-if not-worse would let it pass"
        else:
            sentence += "; --allow-contract-change lets the candidate pass all the same"
        return Check(name, allowed and not better, None, threshold, sentence), None
    reason = ""
    try:
        comparison = compare_on_rows(champion, candidate)
    except Exception as error:  # fail closed, as above
        reason = _explain(error)
        if not allowed:
            sentence = f"the candidate cannot be compared with the champion: {reason}"
            hint = "; --allow-contract-change would compare with its recorded score instead"
            return Check(name, False, None, threshold, sentence + hint), None
        comparison = compare_with_record(champion, candidate)
    passed = comparison.keeps(promote_if)
    lies = ("lies" if passed else "does not lie") if better else ("does not lie" if passed else "lies")
    sentence = (
        f"{PRIMARY[candidate.contract['task']]} {comparison.ours:.4f} against the champion's {comparison.theirs:.4f} "
        f"{comparison.basis}: the 95 % interval of the difference, {comparison.low:.4f} to {comparison.high:.4f}, "
        f"{lies} wholly {'above 0' if better else f'below {-MARGIN:g}'}"
    )
    if reason:
        sentence += f"; the champion could not be asked: {reason}"
    value = comparison.low if better else comparison.high
    return Check(name, passed, value, threshold, sentence), comparison.champion_metrics


def _check_callers(champion: StoredModel | None, version: str, contract: dict, allowed: bool) -> Check:
    name = "callers of the champion"
    if champion is None:
        return Check(name, True, 0.0, 0.0, "there is no champion whose callers could break")
    if champion.version == version:
        return Check(name, True, 0.0, 0.0, "the candidate is the champion itself")
    changes = list_breaking_changes(champion.read(CONTRACT), contract)
    sentence = "whoever calls the champion can call the candidate"
    if changes:
        listed = "; ".join(changes)
        sentence = f"callers of the champion would break, which --allow-contract-change allows: {listed}"
        if not allowed:
            sentence = f"callers of the champion would break: {listed}. Mend that, or give --allow-contract-change"
    return Check(name, allowed or not changes, float(len(changes)), 0.0, sentence)


def _explain(error: Exception) -> str:
    return str(error) if isinstance(error, ModelerError) else f"{type(error).__name__}: {error}"


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
