"""Callers: what the champion's callers do or rely on that the candidate would break."""

import difflib
import json
from collections.abc import Sequence

from modeler.gate.candidate import Candidate
from modeler.gate.checks import Check
from modeler.model.amounts import fold_flag, has_texts, split_format
from modeler.model.dates import ISO
from modeler.model.stored import CONTRACT, StoredModel


def list_breaking_changes(theirs: dict, ours: dict) -> list[str]:
    """What callers of the champion do or rely on that the candidate refuses or answers otherwise, one phrase each.

    A caller of the champion sends every column that it uses, perhaps some that it ignores, and no other; null where its
    contract allows that. The candidate refuses columns that its own contract does not name, and needs those that it uses.
    Answers name the classes, which OpenAPI lists: a class more or less is news to a caller, and so is an interval less. Ranges and categories are no
    constraints, and columns that are ignored now do no harm; positive class and threshold do not show in an answer's form.
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
    if "interval" in old and "interval" not in new:
        changes.append("'low' and 'high' are gone from the answers, whose values had an interval")
    if old["classes"] and new["classes"]:
        before, now = list_keys(old), list_keys(new)
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
    elif old["type"] == "date":
        if old["time"] and not new["time"]:
            changes.append(f"{name!r} may no longer have a time of day")
        if old["format"] != new["format"] and not old["format"].startswith(ISO):
            changes.append(f"{name!r} may no longer be sent as {old['format']}")
    elif has_texts(old) and not (has_texts(new) and _read_alike(old) == _read_alike(new)):
        texts = old["format"] if old["type"] == "number" else " or ".join(old["format"])
        changes.append(f"{name!r} may no longer be sent as {texts}")
    if old["missing"] and not new["missing"]:
        changes.append(f"{name!r} may no longer be null")
    return changes


def _read_alike(feature: dict) -> tuple:
    """What decides which texts a caller may send: unit and decimal of an amount, or the words for no and yes."""
    form = feature["format"]
    return split_format(form) if feature["type"] == "number" else tuple(map(fold_flag, form))


def _find_rename(gone: dict, added: Sequence[dict], alone: bool) -> dict | None:
    """The new column that a lost one may have become: of its type, with its range, its categories or a name like its own."""

    def liken(feature: dict) -> float:
        facts = [(gone.get(fact), feature.get(fact)) for fact in ("min", "max", "categories", "example")]
        same = gone["type"] != "boolean" and all(old == new for old, new in facts)
        return 2 * same + difflib.SequenceMatcher(None, gone["name"].lower(), feature["name"].lower()).ratio()

    alike = [feature for feature in added if feature["type"] == gone["type"]]
    best = max(alike, key=liken, default=None)
    return best if best and (alone or liken(best) >= 0.6) else None  # difflib's own cutoff for a close match


def list_keys(target: dict) -> list[str]:
    """The classes as JSON has them, so that 0, "0" and false are three."""
    return [json.dumps(label, ensure_ascii=False) for label in target["classes"] or []]


def check_callers(champion: StoredModel | None, candidate: Candidate, allowed: bool) -> Check:
    """Can whoever calls the champion call the candidate?"""
    name = "callers of the champion"
    if champion is None:
        return Check(name, True, 0.0, 0.0, "there is no champion whose callers could break")
    if champion.version == candidate.version:
        return Check(name, True, 0.0, 0.0, "the candidate is the champion itself")
    changes = list_breaking_changes(champion.read(CONTRACT), candidate.contract)
    sentence = "whoever calls the champion can call the candidate"
    if changes:
        listed = "; ".join(changes)
        sentence = f"callers of the champion would break, which --allow-contract-change allows: {listed}"
        if not allowed:
            sentence = f"callers of the champion would break: {listed}. Mend that, or give --allow-contract-change"
    return Check(name, allowed or not changes, float(len(changes)), 0.0, sentence)
