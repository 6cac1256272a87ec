"""The candidate against the champion, on rows that neither trained on."""

from dataclasses import dataclass

import numpy as np

from modeler import ModelerError
from modeler.data.rows import split_rows
from modeler.data.timeline import find_later
from modeler.gate.callers import list_keys
from modeler.gate.candidate import Candidate
from modeler.gate.checks import BETTER, Check, describe_gains, explain_error, list_known, list_values
from modeler.model.amounts import has_texts
from modeler.model.contract import class_key, read_split, used_features
from modeler.model.graph import Graph
from modeler.model.stored import CONTRACT, GRAPH, StoredModel, check_content
from modeler.train.metrics import (
    Gain,
    compare_recorded,
    compare_values,
    measure_interval,
    resample_roc_auc,
    score_answers,
    weigh_better,
    weigh_worse,
)

MARGIN = 0.01  # of ROC AUC or rank correlation, or share of the error; one that clearly loses more is clearly worse
FEWEST, FEWEST_OF_CLASS = 10, 5  # rows of a comparison; 5 rows are the fewest with over 40 resamples: C(9, 5) = 126


@dataclass(frozen=True)
class Comparison:
    """What the candidate gains over the champion: in ROC AUC, or for values in both measures of `compare_values`.

    `basis` says on which rows; `champion_metrics` are all of the champion's there, None where its recorded score was taken.
    """

    gains: list[Gain]
    basis: str
    champion_metrics: dict[str, float | None] | None

    def weigh(self, promote_if: str) -> float:
        """The figure that decides: above 0 it is "better", from -MARGIN on it is "not-worse"."""
        return weigh_better(self.gains) if promote_if == "better" else weigh_worse(self.gains)

    def keeps(self, promote_if: str) -> bool:
        """Whether an interval lies wholly above 0 and no gain below it ("better"), or none wholly below -MARGIN ("not-worse").

        Of candidates as good as the champion, the first lets 2.5 % pass by chance, or up to 4.3 % on hold-outs of 40 to 400
        rows (measured; the percentile interval is a little short there), and of values up to 4.8 % (measured; two measures).
        """
        return self.weigh(promote_if) > 0 if promote_if == "better" else self.weigh(promote_if) >= -MARGIN

    def describe(self, promote_if: str) -> str:
        """In words, with the figures, the intervals and what they had to be."""
        passed, better = self.keeps(promote_if), promote_if == "better"
        (first, *others), whose = self.gains, "the champion's"
        if first.measure != "roc_auc":
            judged = f"{'' if passed == better else 'not '}clearly {'better' if better else 'worse'}"
            rule = BETTER if others else "better is an interval wholly above 0"
            rule = rule if better else f"worse is an interval wholly below {-MARGIN:g}"
            return f"the candidate is {judged} {self.basis}: {describe_gains(self.gains, whose)} ({rule})"
        lies = "lies" if passed == better else "does not lie"
        return (
            f"{first.measure} {first.ours:.4f} against {whose} {first.theirs:.4f} {self.basis}: the 95 % interval of the "
            f"{first.unit}, {first.low:.4f} to {first.high:.4f}, "
            f"{lies} wholly {'above 0' if better else f'below {-MARGIN:g}'}"
        )


def compare_on_rows(champion: StoredModel, candidate: Candidate) -> Comparison:
    """Have the champion answer the held-out rows that neither trained on, and compare in pairs.

    A ModelerError says where the champion is damaged, cannot answer these rows, or they are too few, and what to do.
    """
    target = candidate.contract["target"]
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
    if target["classes"]:
        gains = [compare_classes(ours, given, truth, target)]
    else:
        gains = compare_values(list_values(ours), list_values(given), truth, list_known(candidate))
    metrics = score_answers(given, truth, theirs["target"])
    return Comparison(gains, f"on {len(truth)} {basis}", metrics)


def compare_classes(ours: list[dict], theirs: list[dict], truth: list, target: dict) -> Gain:
    """ROC AUC of two models with the interval of a paired bootstrap."""
    first, second = (score_answers(answers, truth, target)["roc_auc"] for answers in (ours, theirs))
    interval = measure_interval(np.subtract(*resample_roc_auc([ours, theirs], truth, target)))
    return Gain("roc_auc", first, second, first - second, *interval)


def compare_with_record(champion: StoredModel, candidate: Candidate) -> Comparison:
    """Compare the candidate on all its held-out rows with the score that the champion was stored with: roc_auc or mae.

    This is unpaired: the champion's score is of other rows, and how uncertain it is remains unknown.
    """
    target, truth = candidate.contract["target"], candidate.truth
    metric = "roc_auc" if target["classes"] else "mae"
    recorded = champion.read("metrics.json").get(metric)
    if not isinstance(recorded, int | float):
        raise ModelerError(f"{champion.tag} has no recorded {metric}; {champion.mend}")
    _check_enough(truth, target, "held-out rows")
    if target["classes"]:
        interval = measure_interval(resample_roc_auc([candidate.answers], truth, target)[0] - recorded)
        score = score_answers(candidate.answers, truth, target)[metric]
        gain = Gain(metric, score, recorded, score - recorded, *interval)
    else:
        gain = compare_recorded(list_values(candidate.answers), truth, recorded)
    basis = f"on {len(truth)} held-out rows, the champion's being its recorded score of other rows (unpaired)"
    return Comparison([gain], basis, None)


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
    split = read_split(theirs)
    placing = split["time"] or split["by"]
    if list_dealt(theirs, placing) != list_dealt(ours, placing):
        basis = (
            "held-out rows (the columns changed, so the champion may have trained on some of them, which favours it)"
        )
    elif split["time"]:  # whatever it trained on lay before its boundary, and so did the rest of its groups
        rows = rows & find_later(frame, split["time"], split["boundary"])
        basis += f", at or after the champion's boundary {split['boundary']} by {split['time']!r}"
    elif split != read_split(ours):
        rows = rows & split_rows(frame, split["share"], split["by"])
    full = [feature["name"] for feature in used_features(theirs) if not feature["missing"]]
    refused = rows & frame[full].isna().any(axis=1).to_numpy()
    if refused.any():
        basis += f", less {refused.sum()} with a null that the champion refuses"
    return rows & ~refused, basis


def list_dealt(contract: dict, placing: str | None) -> list[tuple[str, int]]:
    """The columns whose content deals the rows, in order, with the way each is hashed: number, date, text, or once a text."""
    features = [feature for feature in contract["features"] if placing in (None, feature["name"])]
    kinds = {"number": 1, "date": 2}
    dealt = [(feature["name"], kinds.get(feature["type"], 3 if has_texts(feature) else 0)) for feature in features]
    return dealt if placing else [*dealt, (contract["target"]["name"], 0)]


def _check_enough(truth: list, target: dict, basis: str) -> None:
    """Raise a ModelerError if the rows are too few for an interval to say anything."""
    todo = (
        "bring more such rows, keep holdout, --split-by and --split-time as the champion had them, or store the model under "
        "another --name"
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
    sentence = comparison.describe(promote_if)
    if reason:
        sentence += f"; the champion could not be asked: {reason}"
    passed, value = comparison.keeps(promote_if), comparison.weigh(promote_if)
    return Check(name, passed, value, threshold, sentence), comparison.champion_metrics
