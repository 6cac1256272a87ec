"""The candidate against the champion: the rule's error rates, the rows it is held to, and whose callers would break."""

import itertools
import json
import shutil

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from modeler import ModelerError
from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import Table, load_table
from modeler.gate.bounds import BUILT_IN_FLOORS
from modeler.gate.callers import list_breaking_changes
from modeler.gate.candidate import Candidate
from modeler.gate.champion import Comparison, challenge_champion, compare_classes, compare_on_rows, compare_with_record
from modeler.gate.judge import judge_candidate
from modeler.model.contract import read_json, write_json
from modeler.model.graph import Graph
from modeler.model.stored import StoredModel, content_version
from modeler.service.body import BodyReader, RequestError
from modeler.train.estimator import answer_with_estimator, convert_pipeline, encode_table, load_estimator
from modeler.train.metrics import Gain, compare_values

TWO = {"name": "y", "classes": ["a", "b"], "positive": "a", "threshold": 0.5}


@pytest.fixture(scope="module")
def table():
    return load_table("breast_cancer")


@pytest.fixture
def run(forest, tmp_path):
    """A run with a forest, free to be damaged."""
    return shutil.copytree(forest, tmp_path / "run")


@pytest.fixture
def stored(run, tmp_path):
    """A second copy of the default run, to be the champion."""
    return shutil.copytree(run, tmp_path / "champion")


def as_champion(folder) -> StoredModel:
    return StoredModel(f"breast_cancer:{content_version(folder)}", folder)


def judge(run, table, champion, *, floors=None, threshold=0.5, **rule):
    told = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": threshold}
    return judge_candidate(run, table, told, floors or {}, {}, champion, **rule)


def against(judgement):
    """The check against the champion."""
    (check,) = [check for check in judgement.checks if "than the champion" in check.name or "against" in check.name]
    return check


def callers(judgement):
    return next(check for check in judgement.checks if check.name == "callers of the champion")


def refit(run, table, **settings):
    """Train another forest into a run, without its metrics."""
    contract, estimator = read_json(run / "contract.json"), load_estimator(run / "model.skops")
    training = table.frame[~split_rows(table.frame, 0.2)]
    X, y = encode_table(training, contract), training["diagnosis"].to_numpy(str)
    estimator.named_steps["model"].set_params(**settings).fit(X.to_numpy(), y)
    skops.io.dump(estimator, run / "model.skops")
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, X))


def edit(folder, change):
    """Change a contract, which makes another version of it."""
    contract = read_json(folder / "contract.json")
    change(contract)
    write_json(folder / "contract.json", contract)


# --- the rule


def score_rows(rng, truth, separation):
    scores = 1 / (1 + np.exp(-rng.normal(size=len(truth)) - separation * truth))
    return [{"label": "a", "probabilities": {"a": 1 - p, "b": p}} for p in scores.tolist()]


def compare(ours, theirs, truth, target=TWO) -> Comparison:
    return Comparison([compare_classes(ours, theirs, truth, target)], "", None)


@pytest.mark.medium
def test_strict_rule_promotes_at_most_one_in_twenty_equal_challengers():
    rng, promoted, kept = np.random.default_rng(0), 0, 0
    for challenger in range(200):
        truth = (rng.random((113, 200, 400)[challenger % 3]) < 0.37).astype(int)
        separation = (0.5, 1.5, 2.5)[challenger // 3 % 3]
        ours, theirs = score_rows(rng, truth, separation), score_rows(rng, truth, separation)
        comparison = compare(ours, theirs, ["ab"[code] for code in truth])
        promoted += comparison.keeps("better")
        kept += comparison.keeps("not-worse")
    assert promoted <= 10 and kept >= 190


@pytest.mark.medium
def test_clearly_worse_challengers_are_always_refused_and_clearly_better_ones_promoted():
    rng = np.random.default_rng(1)
    for rows in (113, 400):
        for _ in range(20):
            truth = (rng.random(rows) < 0.37).astype(int)
            worse, better = score_rows(rng, truth, 0.5), score_rows(rng, truth, 3.5)
            labels = ["ab"[code] for code in truth]
            assert not compare(worse, better, labels).keeps("not-worse")
            assert not compare(worse, better, labels).keeps("better")
            assert compare(better, worse, labels).keeps("better") and compare(better, worse, labels).keeps("not-worse")


def test_regressions_are_compared_by_order_and_error():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=113)
    good, other, bad = (truth + noise * rng.normal(size=113) for noise in (0.3, 0.3, 0.8))

    def hold(ours, theirs):
        return Comparison(compare_values(ours, theirs, truth, truth), "on 113 rows", None)

    assert hold(good, bad).keeps("better") and not hold(bad, good).keeps("not-worse")
    assert hold(good, other).keeps("not-worse") and not hold(good, other).keeps("better")
    assert not hold(good + 5, good).keeps("not-worse") and not hold(5 * good, other).keeps(
        "better"
    )  # the order is the same
    told = hold(good, bad).describe("better")
    assert told.startswith("the candidate is clearly better on 113 rows: rank correlation 0.9")
    assert "against the champion's 0.7" in told and "; mean absolute error from -" in told
    assert told.endswith("(better is one interval wholly above 0 and a gain in the other)")
    assert hold(bad, good).describe("better").startswith("the candidate is not clearly better on")
    told = hold(bad, good).describe("not-worse")
    assert told.startswith("the candidate is clearly worse on") and told.endswith(
        "(worse is an interval wholly below -0.01)"
    )
    assert hold(good, other).describe("not-worse").startswith("the candidate is not clearly worse on")


def test_regression_against_a_recorded_error(stored):
    truth = np.random.default_rng(0).normal(size=50)
    contract = {"target": {"name": "y", "classes": None}}
    answers = [{"value": value} for value in truth + 1]
    candidate = Candidate("", contract, None, None, [], truth.tolist(), answers)
    for recorded, kept, better in ((2.0, True, True), (1.0, True, False), (0.5, False, False)):
        write_json(stored / "metrics.json", {"r2": 0.5, "mae": recorded})
        comparison = compare_with_record(as_champion(stored), candidate)
        assert comparison.keeps("not-worse") is kept and comparison.keeps("better") is better
        assert (
            f"mae 1 against the champion's {recorded:g}, 95 % interval of the share it takes off"
            in comparison.describe("better")
        )
    write_json(stored / "metrics.json", {"r2": 0.5})
    with pytest.raises(ModelerError, match="has no recorded mae"):
        compare_with_record(as_champion(stored), candidate)


def test_rule_turns_at_its_limits():
    def interval(low, high):
        return Comparison([Gain("roc_auc", 0.0, 0.0, 0.0, low, high)], "", None)

    assert interval(-0.2, -0.01).keeps("not-worse") and not interval(-0.2, -0.0101).keeps("not-worse")
    assert interval(1e-9, 0.1).keeps("better") and not interval(0.0, 0.1).keeps("better")


# --- the gate with a champion


def test_first_candidate_has_no_champion_to_beat(run, table):
    judgement = judge(run, table, None, promote_if="better")
    assert judgement.passed and judgement.champion_metrics is None
    assert against(judgement).sentence == "there is no champion to compare with"


@pytest.mark.parametrize("rule", ["not-worse", "better"])
def test_champion_itself_passes_either_rule(run, stored, table, rule):
    judgement = judge(run, table, as_champion(stored), promote_if=rule)
    assert judgement.passed and judgement.champion_metrics == judgement.metrics
    assert (against(judgement).value, against(judgement).sentence) == (0.0, "the candidate is the champion itself")


def test_champion_itself_passes_however_few_rows_there_are(run, stored, table):
    rows = table.frame[split_rows(table.frame, 0.2)].head(6)
    contract, truth = read_json(run / "contract.json"), rows["diagnosis"].tolist()
    records = raw_records(rows.drop(columns="diagnosis"))
    answers = Graph(run / "model.onnx", contract).answer(records)
    few = Table("few", rows, "diagnosis")
    candidate = Candidate(content_version(run), contract, few, np.ones(6, bool), records, truth, answers)
    check, metrics = challenge_champion(as_champion(stored), candidate, "better", allowed=False)
    assert check.passed and check.sentence == "the candidate is the champion itself" and metrics["accuracy"] == 1


def test_equal_candidate_is_not_worse_but_not_better_either(run, stored, table):
    refit(run, table, random_state=1)
    judgement = judge(run, table, as_champion(stored))
    assert against(judgement).passed and against(judgement).name == "not worse than the champion"
    assert "on 113 held-out rows that neither trained on" in against(judgement).sentence
    assert judgement.champion_metrics == pytest.approx(read_json(stored / "metrics.json"))
    strict = against(judge(run, table, as_champion(stored), promote_if="better"))
    assert not strict.passed and strict.threshold == 0 and "does not lie wholly above 0" in strict.sentence


def test_worse_candidate_is_rejected_with_both_scores_and_the_interval(run, stored, table):
    refit(run, table, n_estimators=1, max_depth=1)
    check = against(judge(run, table, as_champion(stored)))
    assert not check.passed and check.value < check.threshold == -0.01
    assert "against the champion's 1.0000 on 113" in check.sentence and "lies wholly below -0.01" in check.sentence
    better = against(judge(stored, table, as_champion(run), promote_if="better"))
    assert better.passed and better.value > 0 and "lies wholly above 0" in better.sentence


def test_bad_class_behind_a_good_accuracy_is_refused_by_its_recall(run, table):
    edit(run, lambda contract: contract["target"].update(threshold=0.9))
    floors = BUILT_IN_FLOORS["breast_cancer", "diagnosis"]
    judgement = judge(run, table, None, floors=floors, threshold=0.9)
    assert judgement.metrics["accuracy"] > 0.93 and judgement.metrics["recall:malignant"] < 0.9
    (floor,) = [check for check in judgement.checks if check.name == "floor of recall:malignant"]
    assert not floor.passed and floor.threshold == 0.9


# --- the rows of the comparison


def share(contract):
    contract["split"]["share"] = 0.1


def group(contract):
    contract["split"] = {"by": "mean texture", "time": None, "boundary": None, "share": 0.5}


def added(contract):
    contract["features"].append(contract["features"][0] | {"name": "weight", "used": False, "reason": "constant"})


def group_others(contract):
    group(contract)
    added(contract)


@pytest.mark.parametrize(
    ("change", "rule"),
    [(share, (0.1, "")), (group, (0.5, "mean texture")), (group_others, (0.5, "mean texture"))],
)
def test_champion_that_dealt_otherwise_is_asked_for_the_rows_held_out_by_both(run, stored, table, change, rule):
    edit(stored, change)
    refit(run, table, n_estimators=50)
    judgement = judge(run, table, as_champion(stored))
    rows = int((split_rows(table.frame, 0.2) & split_rows(table.frame, *rule)).sum())
    assert 20 < rows < 80 and f"on {rows} held-out rows that neither trained on" in against(judgement).sentence
    assert against(judgement).passed and judgement.champion_metrics != judgement.metrics


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ((0.05, "mean texture"), "there are 4 held-out rows that neither trained on, and a comparison needs 10; "),
        ((0.2, "symmetry error"), "3 of the 22 held-out rows that neither trained on are malignant, and "),
    ],
)
def test_too_few_rows_have_failed(run, stored, table, rule, told):
    edit(stored, lambda contract: contract["split"].update(share=rule[0], by=rule[1]))
    check = against(judge(run, table, as_champion(stored)))
    assert not check.passed and check.value is None and told in check.sentence
    assert "bring more such rows, keep holdout, --split-by and --split-time as the champion had them" in check.sentence


def other_kind(contract):
    unused = next(feature for feature in contract["features"] if not feature["used"])
    unused["type"] = "category"


def group_by_a_lost_column(contract):
    added(contract)
    contract["split"]["by"] = "weight"


@pytest.mark.parametrize("change", [added, other_kind, group_by_a_lost_column])
def test_changed_columns_favour_the_champion_and_the_verdict_says_so(run, stored, table, change):
    edit(stored, change)
    sentence = against(judge(run, table, as_champion(stored))).sentence
    assert "on 113 held-out rows (the columns changed, so the champion may have trained on some of them" in sentence


def test_rows_that_the_champion_refuses_are_left_out(run, stored, table):
    frame = table.frame.copy()
    frame.iloc[:100, 0] = np.nan
    gaps, heldout = Table("breast_cancer", frame, "diagnosis", built_in=True), split_rows(frame, 0.2)
    contract = derive_contract(gaps, frame[~heldout], min_association=0.1, holdout=0.2)
    records, truth = raw_records(frame[heldout].drop(columns="diagnosis")), frame.loc[heldout, "diagnosis"].tolist()
    answers = answer_with_estimator(load_estimator(run / "model.skops"), frame[heldout], contract)
    comparison = compare_on_rows(as_champion(stored), Candidate("", contract, gaps, heldout, records, truth, answers))
    nulls = int(heldout[:100].sum())
    assert nulls and f"on {heldout.sum() - nulls} held-out" in comparison.basis
    assert f"less {nulls} with a null that the champion refuses" in comparison.basis
    assert list_breaking_changes(read_json(stored / "contract.json"), contract) == []


# --- champions that cannot be asked


def damage(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"x")


def remove(folder):
    (folder / "model.onnx").unlink()


def alter(contract):
    """Make another version of it."""
    contract["target"]["threshold"] = 0.4


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "metrics.json"])
def test_candidate_that_is_the_damaged_champion_passes_to_mend_it(run, stored, table, name):
    champion = as_champion(stored)
    (stored / name).write_text("{")
    judgement = judge(run, table, champion, promote_if="better")
    assert judgement.passed and judgement.champion_metrics == judgement.metrics


@pytest.mark.parametrize(
    ("harm", "told"), [(damage, "was changed after it was stored"), (remove, "is damaged: No such file")]
)
def test_damaged_champion_fails_the_check_with_what_to_do(run, stored, table, harm, told):
    refit(run, table, random_state=1)
    champion = as_champion(stored)
    harm(stored)
    judgement = judge(run, table, champion)
    check = against(judgement)
    assert not check.passed and check.value is None and judgement.champion_metrics is None
    assert told in check.sentence and f"`bentoml models delete {champion.tag}` and retrain" in check.sentence
    allowed = against(judge(run, table, champion, allow_contract_change=True))
    assert allowed.passed and "recorded score of other rows (unpaired)" in allowed.sentence and told in allowed.sentence


def test_recorded_score_is_a_bar_too(run, stored, table):
    refit(run, table, n_estimators=1, max_depth=1)
    champion = as_champion(stored)
    damage(stored)
    check = against(judge(run, table, champion, allow_contract_change=True))
    assert not check.passed and "(unpaired)" in check.sentence and "lies wholly below -0.01" in check.sentence


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_champion_without_a_readable_contract_fails_whatever_is_allowed(run, stored, table, content):
    edit(stored, alter)
    champion = as_champion(stored)
    (stored / "contract.json").write_text(content)
    for allowed in (False, True):
        judgement = judge(run, table, champion, allow_contract_change=allowed)
        failed = {check.name for check in judgement.checks if not check.passed}
        assert failed == {"against the champion", "as good as it was", "callers of the champion"}
        assert all("could not be checked" in reason for reason in judgement.reasons)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "has no readable metrics.json"),
        ("{}", "has no recorded roc_auc"),
        ('{"roc_auc": null}', "has no recorded roc_auc"),
        ('{"roc_auc": NaN}', "has no readable metrics.json"),
        ("[]", "could not be checked"),
    ],
)
def test_champion_without_a_recorded_score_fails_where_it_is_needed(run, stored, table, content, told):
    edit(stored, alter)
    champion = as_champion(stored)
    damage(stored)
    (stored / "metrics.json").write_text(content)
    check = against(judge(run, table, champion, allow_contract_change=True))
    assert not check.passed and told in check.sentence


def lose(contract):
    contract["features"].append(contract["features"][0] | {"name": "weight"})


def retype(contract):
    contract["features"][0]["type"] = "category"


@pytest.mark.parametrize(
    ("change", "told", "named"),
    [
        (lose, "needs 'weight' as a number, which is no longer in the data", "'weight' is gone"),
        (
            retype,
            "needs 'mean radius' as a category, which is of type number now",
            "'mean radius' was of type category and is of type number",
        ),
    ],
)
def test_champion_that_needs_what_the_data_no_longer_have(run, stored, table, change, told, named):
    edit(stored, change)
    judgement = judge(run, table, as_champion(stored))
    assert not against(judgement).passed and told in against(judgement).sentence
    assert not callers(judgement).passed and named in callers(judgement).sentence
    assert "or give --allow-contract-change" in callers(judgement).sentence
    judgement = judge(run, table, as_champion(stored), allow_contract_change=True)
    assert judgement.passed and told in against(judgement).sentence and "(unpaired)" in against(judgement).sentence
    assert "which --allow-contract-change allows: " + named in callers(judgement).sentence


def drop_class(contract):
    contract["target"] = contract["target"] | {"classes": ["benign", "malignant", "unsure"]}


def regress(contract):
    contract["task"], contract["target"] = "regression", {"name": "age", "classes": None}


@pytest.mark.parametrize(
    ("change", "told", "named"),
    [
        (drop_class, 'the champion\'s classes are "benign", "malignant", "unsure"', 'class "unsure" is gone'),
        (
            regress,
            "the champion's task is regression, the candidate's is classification",
            "the task was regression and is classification; the target was 'age' and is 'diagnosis'",
        ),
    ],
)
def test_champion_of_another_question_cannot_be_compared_and_that_is_said(run, stored, table, change, told, named):
    edit(stored, change)
    champion = as_champion(stored)
    judgement = judge(run, table, champion)
    assert not against(judgement).passed and told in against(judgement).sentence
    assert "--allow-contract-change would promote" in against(judgement).sentence
    assert not callers(judgement).passed and named in callers(judgement).sentence
    allowed = judge(run, table, champion, allow_contract_change=True)
    assert allowed.passed and "nothing could be compared with the champion" in against(allowed).sentence
    strict = judge(run, table, champion, allow_contract_change=True, promote_if="better")
    assert not strict.passed and "only --promote-if not-worse would let it pass" in against(strict).sentence


def test_graph_that_answers_nan_cannot_be_compared(run, stored, table):
    estimator, contract = load_estimator(stored / "model.skops"), read_json(stored / "contract.json")
    X = encode_table(table.frame, contract)
    model = LogisticRegression(max_iter=5000).fit(X, table.frame["diagnosis"].to_numpy(str))
    model.coef_ *= np.nan
    estimator.steps[1] = ("model", model)
    (stored / "model.onnx").write_bytes(convert_pipeline(estimator, X))
    check = against(judge(run, table, as_champion(stored)))
    assert not check.passed and "cannot answer them: the model answered NaN or Infinity" in check.sentence


# --- callers

STATES = {
    "absent": None,
    "number": {"type": "number", "used": True, "missing": False, "min": 0.0, "max": 1.0, "example": 1.0},
    "number or null": {"type": "number", "used": True, "missing": True, "min": 0.0, "max": 1.0, "example": 1.0},
    "boolean": {"type": "boolean", "used": True, "missing": False, "categories": [False, True], "example": True},
    "text": {"type": "category", "used": True, "missing": False, "categories": ["a"], "example": "a"},
    "text or null": {"type": "category", "used": True, "missing": True, "categories": ["a"], "example": "a"},
    "ignored": {"type": "number", "used": False, "missing": False, "reason": "constant", "example": 1.0},
}

STATES["amount"] = STATES["number"] | {"format": "$1,234.5"}
STATES["weight"] = STATES["number"] | {"format": "1,234.5 kg"}
STATES["yes or no"] = STATES["boolean"] | {"format": ["no", "yes"]}


def make_contract(features, **target):
    kept = {"name": "kept"} | STATES["number"]
    return {"name": "t", "task": "classification", "target": TWO | target, "features": [kept, *features]}


@pytest.mark.parametrize(("before", "now"), list(itertools.product(STATES, STATES)))
def test_change_is_breaking_just_where_the_service_refuses_what_it_took(before, now):
    """Every body with a value of any kind in one column, or without it, sent to both models' readers."""
    old, new = (make_contract([{"name": "x"} | STATES[state]] if STATES[state] else []) for state in (before, now))
    bodies = [{"kept": 0.5}, *({"kept": 0.5, "x": value} for value in (0.5, True, "a", "$5", "5 kg", "yes", None, [1]))]
    readers = [BodyReader(contract, 9) for contract in (old, new)]

    def takes(reader, body):
        try:
            return bool(reader.read(json.dumps([body]).encode()))
        except RequestError:
            return False

    broken = any(takes(readers[0], body) and not takes(readers[1], body) for body in bodies)
    assert bool(list_breaking_changes(old, new)) is broken


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("number", "absent", "'x' is gone"),
        ("ignored", "absent", "'x', which was optional, is gone"),
        ("absent", "number", "'x' is new and required"),
        ("ignored", "number", "'x' was optional and is required"),
        ("number or null", "number", "'x' may no longer be null"),
        ("amount", "weight", "'x' may no longer be sent as $1,234.5"),
        ("yes or no", "boolean", "'x' may no longer be sent as no or yes"),
        ("text or null", "number", "'x' was of type category and is of type number, 'x' may no longer be null"),
    ],
)
def test_breaking_change_names_the_column(before, now, told):
    old, new = (make_contract([{"name": "x"} | STATES[state]] if STATES[state] else []) for state in (before, now))
    assert ", ".join(list_breaking_changes(old, new)) == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": ["a", "c"]}, ['class "b" is gone', 'class "c" is new, an answer that callers do not know']),
        ({"classes": ["a", "b", "c"]}, ['class "c" is new, an answer that callers do not know']),
        ({"name": "z"}, ["the target was 'y' and is 'z'"]),
        ({"name": "x"}, ["the target was 'y' and is 'x'", "'x' is what is predicted now and may not be sent"]),
        ({"positive": "b", "threshold": 0.1}, []),
    ],
)
def test_breaking_change_names_class_and_target(change, told):
    x = [] if change.get("name") == "x" else [{"name": "x"} | STATES["text"]]
    assert list_breaking_changes(make_contract([{"name": "x"} | STATES["text"]]), make_contract(x, **change)) == told


def test_classes_of_another_type_are_other_classes():
    whole, truth = make_contract([], classes=[0, 1]), make_contract([], classes=[False, True])
    assert [change.partition(",")[0] for change in list_breaking_changes(whole, truth)] == [
        "class 0 is gone", "class 1 is gone", "class false is new", "class true is new",
    ]  # fmt: skip


def named(name, state="number", **facts):
    return {"name": name} | STATES[state] | facts


@pytest.mark.parametrize(
    ("gone", "new", "told"),
    [
        ([named("a")], [named("b")], ["'a' is gone and 'b' is new: renamed?"]),
        ([named("a")], [named("b", "text")], ["'a' is gone", "'b' is new and required"]),
        (
            [named("height", max=9.0), named("age", max=5.0)],
            [named("years", max=5.0), named("height cm", max=900.0)],
            ["'height' is gone and 'height cm' is new: renamed?", "'age' is gone and 'years' is new: renamed?"],
        ),
        (
            [named("height", max=9.0)],
            [named("years", max=5.0), named("blood", max=7.0)],
            ["'height' is gone", "'years' is new and required", "'blood' is new and required"],
        ),
        ([named("a", "ignored")], [named("b", "ignored")], ["'a' is gone and 'b' is new: renamed?"]),
    ],
)
def test_probable_rename_is_asked_about(gone, new, told):
    assert list_breaking_changes(make_contract(gone), make_contract(new)) == told


def test_ranges_categories_and_associations_break_nobody(run):
    old = read_json(run / "contract.json")
    new = read_json(run / "contract.json")
    for feature in new["features"]:
        feature |= {"association": 0.5, "min": -1e9, "max": 1e9, "example": 3}
    split = {"by": None, "time": "mean area", "boundary": "500.5", "share": 0.5}
    assert list_breaking_changes(old, new | {"rows": 9, "name": "other", "split": split}) == []
