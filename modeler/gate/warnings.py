"""What a person should know of a candidate although the gate lets it pass; nothing is refused for it."""

from modeler import list_names
from modeler.data.copies import find_copies
from modeler.data.derive import warn_of_weak
from modeler.data.leaks import find_leaks
from modeler.gate.candidate import Candidate
from modeler.model.contract import class_key, used_features
from modeler.train.metrics import score_answers

RARE = 0.1  # share of the positive class below which a threshold of one half seldom finds it
SKEWED = 2.0  # skewness of a numeric target; an exponential distribution has 2


def list_warnings(candidate: Candidate, told: dict) -> list[dict]:
    """Each as {"kind", "columns", "message"}."""
    table, contract = candidate.table, candidate.contract
    used = [feature["name"] for feature in used_features(contract)]
    training = table.frame.loc[~candidate.heldout, [*used, table.target]]
    found = find_leaks(training, table.target, table.task)
    found += [_warn_of_copies(candidate), _warn_of_rare_positive(candidate, told)]
    found += [_warn_of_rare_classes(candidate), _warn_of_skew(candidate)]
    if not (table.built_in and told.get("min_association") == "auto"):  # theirs is the article's rule
        found += warn_of_weak(contract)
    return [warning for warning in found if warning]


def _warn_of_copies(candidate: Candidate) -> dict | None:
    copied, warning = find_copies(candidate.table.frame, candidate.heldout)
    if not warning:
        return None
    metric = "roc_auc" if candidate.contract["target"]["classes"] else "r2"
    kept = [row for row, is_copy in enumerate(copied) if not is_copy]
    answers, truth = [candidate.answers[row] for row in kept], [candidate.truth[row] for row in kept]
    score = score_answers(answers, truth, candidate.contract["target"])[metric] if kept else None
    told = f"{metric} is {score:.3f} without them" if score is not None else f"without them {metric} is undefined"
    return warning | {"message": f"{warning['message']}; {told}"}


def _warn_of_rare_positive(candidate: Candidate, told: dict) -> dict | None:
    target = candidate.contract["target"]
    if "positive" not in target or str(told.get("threshold")) != "0.5":
        return None
    key = class_key(target["positive"])
    share = (candidate.table.frame[target["name"]] == target["positive"]).mean()
    if share >= RARE:
        return None
    recall = score_answers(candidate.answers, candidate.truth, target)[f"recall:{key}"] or 0
    return _warn("rare positive", [target["name"]],
        f"{100 * share:.2g} % of the rows are {key}, and from the probability 0.5 on the model finds {100 * recall:.0f} % of those held out; "
        "-p threshold=auto takes the threshold with the best F1, -p threshold=recall:0.9 one that finds 90 %")  # fmt: skip


def _warn_of_rare_classes(candidate: Candidate) -> dict | None:
    rare, target = candidate.table.rare, candidate.contract["target"]
    if not rare:
        return None
    became = "left out" if rare["rule"] == "drop" else "joined to one class"
    answered = "one of the other classes" if rare["rule"] == "drop" else "that class"
    return _warn("rare classes", [target["name"]],
        f"{rare['rows']} rows of {len(rare['classes'])} rare classes were {became} ({list_names(rare['classes'])}); "
        f"a row of these is answered as {answered}")  # fmt: skip


def _warn_of_skew(candidate: Candidate) -> dict | None:
    target, frame = candidate.contract["target"], candidate.table.frame
    if target["classes"] or not (skewness := frame.loc[~candidate.heldout, target["name"]].skew()) > SKEWED:
        return None
    return _warn("skewed target", [target["name"]],
        f"{target['name']!r} is skewed (skewness {skewness:.1f}), so its few greatest values decide r2 and rmse; look at mae too")  # fmt: skip


def _warn(kind: str, columns: list[str], message: str) -> dict:
    return {"kind": kind, "columns": columns, "message": message}
