"""Parameters: read from the notebooks and checked before any kernel starts."""

import json

import pytest
from conftest import ROOT

from modeler import ModelerError, UsageError
from modeler.runs.parameters import CHOICES, LEAST, RANGE, check_parameters, read_parameters

RESERVED = {"data": "--data"}


def write_notebook(path, *cells):
    cells = [
        {"cell_type": "code", "source": source, "metadata": {"tags": tags}, "outputs": [], "execution_count": None}
        for source, tags in cells
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture(scope="module")
def known():
    return {name: read_parameters(ROOT / "notebooks" / name) for name in ("eda.ipynb", "train.ipynb")}


def test_shipped_notebooks_have_the_parameters_others_rely_on(known):
    assert {"min_association", "holdout"} <= known["eda.ipynb"].keys()
    assert {"estimator", "class_weight", "n_estimators", "tuning_iterations", "threshold", "seed"} <= known["train.ipynb"].keys()
    assert known["eda.ipynb"]["min_association"].default == "auto"


def test_every_shipped_parameter_says_what_it_is_and_numbers_have_limits(known):
    for parameters in known.values():
        for parameter in parameters.values():
            assert parameter.comment, parameter
            if parameter.type in (int, float):
                assert RANGE.search(parameter.comment) or LEAST.search(parameter.comment), parameter


def test_estimator_offers_nine_and_their_comparison(known):
    choices = CHOICES.search(known["train.ipynb"]["estimator"].comment)[1].split(", ")
    assert choices == [
        "auto", "logistic_regression", "binned_logistic_regression", "gradient_boosting", "hist_gradient_boosting",
        "random_forest", "extra_trees", "lightgbm", "xgboost", "catboost",
    ]  # fmt: skip


def test_values_take_the_type_of_their_parameter(known):
    given = ["seed=007", "threshold=1", "estimator=extra_trees", "holdout=.25", "positive=a=b"]
    assert check_parameters(given, known, RESERVED) == {
        "seed": 7, "threshold": "1", "estimator": "extra_trees", "holdout": 0.25, "positive": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("estimater=x", "no notebook has a parameter 'estimater' (did you mean 'estimator'?); eda.ipynb takes"),
        ("seed", "-p seed: a parameter is given as KEY=VALUE"),
        ("data=x.csv", "-p data=x.csv: data is set by --data"),
        ("seed=notanint", "seed must be a whole number, got: notanint"),
        ("seed=1.5", "seed must be a whole number, got: 1.5"),
        ("seed=-1", "seed must be from 0 to 4294967295, got: -1"),
        ("threshold=high", "threshold must be one of auto, recall:SHARE, or from 0 to 1, got: high"),
        ("threshold=nan", "threshold must be one of auto, recall:SHARE, or from 0 to 1, got: nan"),
        ("threshold=1.01", "threshold must be one of auto, recall:SHARE, or from 0 to 1, got: 1.01"),
        ("threshold=recall:0", "or from 0 to 1, got: recall:0"),
        ("threshold=recall:1.1", "or from 0 to 1, got: recall:1.1"),
        ("threshold=recall:most", "or from 0 to 1, got: recall:most"),
        ("threshold=precision:0.9", "or from 0 to 1, got: precision:0.9"),
        ("rare_classes=merge", "rare_classes must be one of refuse, drop, other, got: merge"),
        ("holdout=0.9", "holdout must be from 0.05 to 0.5, got: 0.9"),
        (
            "estimator=forest",
            "estimator must be one of auto, logistic_regression, binned_logistic_regression, gradient_boosting, ",
        ),
        ("estimator=random_forrest", "got: random_forrest (did you mean 'random_forest'?)"),
        ("n_estimators=0", "n_estimators must be at least 1, got: 0"),
    ],
)
def test_wrong_parameter_says_what_was_given_and_what_is_allowed(known, given, sentence):
    with pytest.raises(UsageError) as error:
        check_parameters([given], known, RESERVED)
    assert sentence in str(error.value)


def test_parameter_given_twice_is_refused(known):
    with pytest.raises(UsageError, match="seed is given twice"):
        check_parameters(["seed=1", "seed=2"], known, RESERVED)


def test_limits_and_types_are_read_from_the_line(tmp_path):
    source = 'a: int = 3  # rows, from 1 to 1_000\nb = True\nc: float = 2  # at least 1e-3\nd: str = "x-1"  # one of x-1, y; at least 1\ne: int = 2  # one of 1, 2\n'
    parameters = read_parameters(write_notebook(tmp_path / "n.ipynb", (source, ["parameters"])))
    assert [(p.name, p.type, p.default) for p in parameters.values()] == [
        ("a", int, 3), ("b", bool, True), ("c", float, 2), ("d", str, "x-1"), ("e", int, 2),
    ]  # fmt: skip
    assert parameters["d"].parse("y") == "y" and parameters["e"].parse("1") == 1
    assert parameters["a"].parse("1000") == 1000 and parameters["b"].parse("FALSE") is False
    for name, text in (("a", "1001"), ("b", "yes"), ("c", "0.0001"), ("d", "z"), ("e", "3")):
        with pytest.raises(UsageError, match=f"{name} must be .*, got: {text}"):
            parameters[name].parse(text)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([("a = 1", [])], "n.ipynb has no cell tagged `parameters`; tag the one cell"),
        ([("a = 1", ["parameters"])] * 2, "n.ipynb has 2 cells tagged `parameters`"),
        ([("a = ", ["parameters"])], "the parameters cell of n.ipynb is not Python: invalid syntax in line 1"),
        ([("a = 1\nb = a + 1", ["parameters"])], "line 2 of the parameters cell of n.ipynb: b is computed"),
        ([("print(1)", ["parameters"])], "line 1 of the parameters cell of n.ipynb is not `name: type = literal`"),
        ([("a = [1]", ["parameters"])], "a is list = [1]; a parameter is one of str, int, float, bool"),
        ([("a: int | None = None", ["parameters"])], "a is int | None = None"),
        ([("a: int = 'x'", ["parameters"])], "a is int = 'x'"),
        (
            [("a: float = 0.9  # from 0 to 0.5", ["parameters"])],
            "line 1 of the parameters cell of n.ipynb: a must be from 0",
        ),
        ([("a: str = 'p'  # one of q, r", ["parameters"])], "a must be one of q, r, got: p"),
    ],
)
def test_unusable_parameters_cell_is_named(tmp_path, cells, sentence):
    with pytest.raises(ModelerError) as error:
        read_parameters(write_notebook(tmp_path / "n.ipynb", *cells))
    assert sentence in str(error.value)


def test_missing_and_broken_notebooks_are_named(tmp_path):
    with pytest.raises(ModelerError, match="there is no notebook .*n.ipynb; restore it"):
        read_parameters(tmp_path / "n.ipynb")
    (tmp_path / "n.ipynb").write_text("[]")
    with pytest.raises(ModelerError, match="n.ipynb is not a notebook"):
        read_parameters(tmp_path / "n.ipynb")
