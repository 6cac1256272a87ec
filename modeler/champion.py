"""The candidate against the champion: how they compare on rows that neither trained on, and whose callers would break."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modeler import ModelerError
from modeler.contract import class_key, used_features
from modeler.data import Table, split_rows
from modeler.graph import Graph
from modeler.metrics import PRIMARY, measure_interval, resample_primary, score_answers
from modeler.store import CONTRACT, GRAPH, StoredModel, check_content

MARGIN = 0.01  # of the primary metric, by which a candidate is clearly worse than the champion
FEWEST, FEWEST_OF_CLASS = 10, 5  # rows of a comparison; 5 rows are the fewest with over 40 resamples: C(9, 5) = 126


@dataclass(frozen=True)
class Candidate:
    """A candidate with its answers to the held-out rows.

    `contract` is that of the table, `heldout` is one boolean a row of the table; `records`, `truth` and `answers` are
    those of the rows held out.
    """

    version: str
    contract: dict
    table: Table
    heldout: np.ndarray
    records: list[dict]
    truth: list
    answers: list[dict]


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

    Raises
    ------
    ModelerError
        When the champion is damaged, cannot answer these rows, or they are too few; it says what to do.
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
    classes = [_list_keys(contract["target"]) for contract in (theirs, ours)]
    if classes[0] != classes[1]:
        return f"the champion's classes are {', '.join(classes[0])}, the candidate's are {', '.join(classes[1])}"
    return None


def list_breaking_changes(theirs: dict, ours: dict) -> list[str]:
    """What callers of the champion do or rely on that the candidate refuses or answers otherwise, one phrase each.

    A caller of the champion sends every column that it uses, perhaps any that it ignores, and no other; null where it
    allows that. The candidate refuses columns that its contract does not name, and needs those it uses (modeler.body).
    Answers name the classes, which OpenAPI lists: a class more or less is news to a caller. Ranges and categories are no
    constraints, and columns that are ignored now do no harm; positive class and threshold do not show in an answer's form.

    Parameters
    ----------
    theirs, ours
        The contracts of champion and candidate.
    """
    before = {feature["name"]: feature for feature in theirs["features"]}
    now = {feature["name"]: feature for feature in ours["features"]}
    added = [feature for name, feature in now.items() if name not in before]
    gone = [feature for name, feature in before.items() if name not in now]
    changes = _list_target_changes(theirs, ours)
    for feature in gone:
        name = feature["name"]
        if name == ours["target"]["name"]:
            changes.append(f"{name!r} is what is predicted now and may not be sent")
        elif renamed := _find_rename(feature, added, alone=len(gone) == len(added) == 1):
            added.remove(renamed)
            changes.append(f"{name!r} is gone and {renamed['name']!r} is new: renamed?")
        else:
            changes.append(f"{name!r}{'' if feature['used'] else ', which was optional,'} is gone")
    changes += [f"{feature['name']!r} is new and required" for feature in added if feature["used"]]
    for name in now:
        if name in before:
            changes += _list_column_changes(before[name], now[name])
    return changes


def _list_target_changes(theirs: dict, ours: dict) -> list[str]:
    old, new, changes = theirs["target"], ours["target"], []
    if theirs["task"] != ours["task"]:
        changes.append(f"the task was {theirs['task']} and is {ours['task']}")
    if old["name"] != new["name"]:
        changes.append(f"the target was {old['name']!r} and is {new['name']!r}")
    if old["classes"] and new["classes"]:
        before, now = _list_keys(old), _list_keys(new)
        changes += [f"class {key} is gone" for key in before if key not in now]
        changes += [f"class {key} is new, an answer that callers do not know" for key in now if key not in before]
    return changes


def _list_column_changes(old: dict, new: dict) -> list[str]:
    name, changes = new["name"], []
    if not new["used"]:
        return []
    if not old["used"]:
        return [f"{name!r} was optional and is required"]
    if old["type"] != new["type"]:
        changes.append(f"{name!r} was of type {old['type']} and is of type {new['type']}")
    if old["missing"] and not new["missing"]:
        changes.append(f"{name!r} may no longer be null")
    return changes


def _find_rename(gone: dict, added: Sequence[dict], alone: bool) -> dict | None:
    """The new column that a lost one may have become: of its type, with its range, its categories or a name like its own."""

    def liken(feature: dict) -> float:
        facts = [(gone.get(fact), feature.get(fact)) for fact in ("min", "max", "categories", "example")]
        same = gone["type"] != "boolean" and all(old == new for old, new in facts)
        return 2 * same + difflib.SequenceMatcher(None, gone["name"].lower(), feature["name"].lower()).ratio()

    alike = [feature for feature in added if feature["type"] == gone["type"]]
    best = max(alike, key=liken, default=None)
    return best if best and (alone or liken(best) >= 0.6) else None  # difflib's own cutoff for a close match


def _list_keys(target: dict) -> list[str]:
    """The classes as JSON has them, so that 0, "0" and false are three."""
    return [json.dumps(label, ensure_ascii=False) for label in target["classes"] or []]


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
    """Raise a ModelerError where a bootstrap of so few rows would say nothing."""
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
