"""The candidate against the champion, on rows that neither trained on."""

from dataclasses import dataclass

import numpy as np

from modeler import ModelerError
from modeler.data.rows import split_rows
from modeler.gate.callers import list_keys
from modeler.gate.candidate import Candidate
from modeler.gate.checks import Check, explain_error
from modeler.model.contract import class_key, used_features
from modeler.model.graph import Graph
from modeler.model.stored import CONTRACT, GRAPH, StoredModel, check_content
from modeler.train.metrics import PRIMARY, measure_interval, resample_primary, score_answers

MARGIN = 0.01  # of the primary metric; a candidate that loses more is clearly worse than the champion
FEWEST, FEWEST_OF_CLASS = 10, 5  # rows of a comparison; 5 rows are the fewest with over 40 resamples: C(9, 5) = 126


@dataclass(frozen=True)
class Comparison:
    """The primary metric of candidate and champion, and the 95 % interval of the candidate's less the champion's.

    `basis` says on which rows; `champion_metrics` are all of the champion's there, None where its recorded score was taken.
    """

    ours: float
    theirs: float
    low: float
    high: float
    basis: str
    champion_metrics: dict[str, float | None] | None

    def keeps(self, promote_if: str) -> bool:
        """Whether the interval lies wholly above 0 ("better"), or not wholly below -MARGIN ("not-worse").

        Of candidates as good as the champion, the first lets 2.5 % pass by chance, or up to 4.3 % on hold-outs of 40 to 400
        rows (measured; the percentile interval is a little short there).
        """
        return self.low > 0 if promote_if == "better" else self.high >= -MARGIN


def compare_on_rows(champion: StoredModel, candidate: Candidate) -> Comparison:
    """Have the champion answer the held-out rows that neither trained on, and compare by a paired bootstrap.

    A ModelerError says where the champion is damaged, cannot answer these rows, or they are too few, and what to do.
    """
    target, metric = candidate.contract["target"], PRIMARY[candidate.contract["task"]]
    check_content(champion)
    theirs = champion.read(CONTRACT)
    _check_columns(champion, theirs, candidate.contract)
    kept, basis = _choose_rows(candidate, theirs)
    places = np.flatnonzero(kept[candidate.heldout])
    records, truth, ours = (
        [part[i] for i in places] for part in (candidate.records, candidate.truth, candidate.answers)
    )
    _check_enough(truth, target, basis)
    try:
        given = Graph(champion.path / GRAPH, theirs).answer(records)
    except Exception as error:  # whatever an older graph does not take
        raise ModelerError(f"{champion.tag} cannot answer them: {error}") from None
    interval = measure_interval(np.subtract(*resample_primary([ours, given], truth, target)))
    metrics = score_answers(given, truth, theirs["target"])
    score = score_answers(ours, truth, target)[metric]
    return Comparison(score, metrics[metric], *interval, f"on {len(truth)} {basis}", metrics)


def compare_with_record(champion: StoredModel, candidate: Candidate) -> Comparison:
    """Compare the candidate on all its held-out rows with the score that the champion was stored with.

    This is unpaired: the champion's score is of other rows, and how uncertain it is remains unknown.
    """
    target, metric = candidate.contract["target"], PRIMARY[candidate.contract["task"]]
    recorded = champion.read("metrics.json").get(metric)
    if not isinstance(recorded, int | float):
        raise ModelerError(f"{champion.tag} has no recorded {metric}; {champion.mend}")
    _check_enough(candidate.truth, target, "held-out rows")
    interval = measure_interval(resample_primary([candidate.answers], candidate.truth, target)[0] - recorded)
    score = score_answers(candidate.answers, candidate.truth, target)[metric]
    basis = f"on {len(candidate.truth)} held-out rows, the champion's being its recorded score of other rows (unpaired)"
    return Comparison(score, recorded, *interval, basis, None)


def describe_other_question(theirs: dict, ours: dict) -> str | None:
    """Why two models cannot be compared at all, because they answer different questions; None where they can."""
    if theirs["task"] != ours["task"]:
        return f"the champion's task is {theirs['task']}, the candidate's is {ours['task']}"
    classes = [list_keys(contract["target"]) for contract in (theirs, ours)]
    if classes[0] != classes[1]:
        return f"the champion's classes are {', '.join(classes[0])}, the candidate's are {', '.join(classes[1])}"
    return None


def _check_columns(champion: StoredModel, theirs: dict, ours: dict) -> None:
    now = {feature["name"]: feature["type"] for feature in ours["features"]}
    for feature in used_features(theirs):
        name = feature["name"]
        if now.get(name) != feature["type"]:
            what = f"is of type {now[name]} now" if name in now else "is no longer in the data"
            raise ModelerError(f"{champion.tag} needs {name!r} as a {feature['type']}, which {what}")


def _choose_rows(candidate: Candidate, theirs: dict) -> tuple[np.ndarray, str]:
    """Which rows of the table to compare on, one boolean each, and what they are called."""
    ours, frame, rows, basis = (
        candidate.contract,
        candidate.table.frame,
        candidate.heldout,
        "held-out rows that neither trained on",
    )
    share, split_by = theirs["holdout"]["share"], theirs["holdout"]["split_by"]
    if _list_dealt(theirs, split_by) != _list_dealt(ours, split_by):
        basis = (
            "held-out rows (the columns changed, so the champion may have trained on some of them, which favours it)"
        )
    elif theirs["holdout"] != ours["holdout"]:
        rows = rows & split_rows(frame, share, split_by or "")
    full = [feature["name"] for feature in used_features(theirs) if not feature["missing"]]
    refused = rows & frame[full].isna().any(axis=1).to_numpy()
    if refused.any():
        basis += f", less {refused.sum()} with a null that the champion refuses"
    return rows & ~refused, basis


def _list_dealt(contract: dict, split_by: str | None) -> list[tuple[str, bool]]:
    """The columns whose content deals the rows, in order, and whether they are hashed as numbers."""
    features = [feature for feature in contract["features"] if split_by in (None, feature["name"])]
    dealt = [(feature["name"], feature["type"] == "number") for feature in features]
    return dealt if split_by else [*dealt, (contract["target"]["name"], False)]


def _check_enough(truth: list, target: dict, basis: str) -> None:
    """Raise a ModelerError if the rows are too few for a bootstrap to say anything."""
    todo = (
        "bring more rows, keep holdout and --split-by as the champion had them, or store the model under another --name"
    )
    if len(truth) < FEWEST:
        raise ModelerError(f"there are {len(truth)} {basis}, and a comparison needs {FEWEST}; {todo}")
    keys = [class_key(label) for label in truth]
    for key in map(class_key, target["classes"] or []):
        if (count := keys.count(key)) < FEWEST_OF_CLASS:
            raise ModelerError(
                f"{count} of the {len(truth)} {basis} are {key}, and a comparison needs {FEWEST_OF_CLASS} of a class; {todo}"
            )


def challenge_champion(
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
        reason = explain_error(error)
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
