"""The sides of a comparison: runs and stored models, found by name, with whatever is left of their files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from modeler import ModelerError, UsageError, did_you_mean, list_names
from modeler.model.contract import read_json, read_split, used_features
from modeler.model.stored import CONTRACT, GRAPH, check_content, find_model, store_home

FEWEST, MOST = 2, 10
NOTEBOOKS = ("eda.ipynb", "train.ipynb")
SWEEP = "sweep.json"
LACKING = {  # what a comparison cannot show of a side without the file
    CONTRACT: "columns and answers",
    GRAPH: "answers",
    "metrics.json": "recorded scores",
    "importance.json": "importance of columns",
    "provenance.json": "data's hash, packages and code",
    **dict.fromkeys(NOTEBOOKS, "cells"),
}


@dataclass(frozen=True)
class Side:
    """A run or a stored model. What is not on file is empty or None, and stands in `missing`.

    `folder` has its files, `run` the link to its data; `parameters` and `notebooks` stand by notebook.
    """

    name: str
    folder: Path
    run: Path
    contract: dict | None
    parameters: dict[str, dict]
    provenance: dict
    metrics: dict
    importance: dict
    notebooks: dict[str, nbformat.NotebookNode]
    missing: tuple[str, ...]


def read_sides(names: Sequence[str], runs: Path) -> list[Side]:
    """Read runs, by their names in the folder of all runs, and stored models, by their tags, in the order given.

    A UsageError: too few, too many, unknown or one twice, or they do not predict the same.
    """
    if not FEWEST <= len(names) <= MOST:
        raise UsageError(f"compare takes {FEWEST} to {MOST} runs or model tags, got: {len(names)}")
    sides = []
    for name in names:
        side = _read_side(*_find_side(name, runs))
        if side.name in [other.name for other in sides]:
            raise UsageError(f"{name} is given twice, as {side.name}; name another run or model")
        sides.append(side)
    _check_target(sides)
    return sides


def list_notes(sides: Sequence[Side]) -> list[str]:
    """One sentence for each file that a side lacks, with what cannot be compared without it."""
    return [
        f"{side.name} has no readable {name}: its {LACKING[name]} are left out"
        for side in sides
        for name in side.missing
    ]


def _find_side(name: str, runs: Path) -> tuple[str, Path, Path]:
    """The name to show, the folder of the files, and the folder with the link to the data."""
    for folder in (runs / name, Path(name)):
        folder, parent = folder.resolve(), runs.resolve()
        if folder != parent and folder.is_relative_to(parent) and folder.is_dir():
            return _check_run(folder.relative_to(parent).as_posix(), folder)
    try:
        model = find_model(name)
    except ModelerError:
        raise UsageError(_describe_unknown(name, runs)) from None
    check_content(model)
    run = (runs / str(model.labels.get("run"))).resolve()
    if not run.is_relative_to(runs.resolve()):  # a label may say anything
        run = runs / "none"
    return model.tag, model.path, run


def _check_run(name: str, folder: Path) -> tuple[str, Path, Path]:
    if (folder / SWEEP).exists():
        inner = [f"{name}/{path.parent.name}" for path in sorted(folder.glob("[0-9]*/train.ipynb"))]
        raise UsageError(f"{name} is a sweep; name runs of it: {list_names(inner) or 'it has none yet'}")
    if not any((folder / file).exists() for file in (CONTRACT, *NOTEBOOKS)):
        raise UsageError(f"{name} is no run of a retrain: it has neither {CONTRACT} nor {' nor '.join(NOTEBOOKS)}")
    return name, folder, folder


def _describe_unknown(name: str, runs: Path) -> str:
    known = {path.parent.relative_to(runs).as_posix() for path in runs.glob("*/train.ipynb")}
    known |= {path.parent.relative_to(runs).as_posix() for path in runs.glob("*/[0-9]*/train.ipynb")}
    stored = store_home() / "models"
    models = sorted(f"{path.parent.name}:{path.name}" for path in stored.glob("*/*") if path.is_dir())
    newest = sorted(known, reverse=True)
    return (
        f"there is no run and no model {name}{did_you_mean(name, [*newest, *models])}; "
        f"runs: {list_names(newest) or 'none'}; models: {list_names(models) or 'none'}"
    )


def _read_side(name: str, folder: Path, run: Path) -> Side:
    missing = [] if (folder / GRAPH).is_file() else [GRAPH]

    def read(file: str, check=dict):
        try:
            content = read_json(folder / file)
            check(content)
            return content
        except (OSError, ValueError, KeyError, TypeError):
            missing.append(file)
            return {}

    contract = read(CONTRACT, _check_contract) or None
    metrics, importance = read("metrics.json"), read("importance.json", lambda content: dict(content["rise"]))
    provenance = _read_sweep(folder) or read("provenance.json", lambda content: dict(content["data"]))
    notebooks = {}
    for file in NOTEBOOKS:
        try:
            notebooks[file] = nbformat.read(folder / file, 4)
        except (OSError, ValueError, nbformat.ValidationError):
            missing.append(file)
    parameters = {
        file: dict(notebook.metadata.get("papermill", {}).get("parameters", {})) for file, notebook in notebooks.items()
    }
    parameters |= provenance.get("parameters", {})
    order = [*LACKING]
    return Side(name, folder, run, contract, parameters, provenance, metrics, importance, notebooks,
                tuple(sorted(missing, key=order.index)))  # fmt: skip


def _check_contract(contract: dict) -> None:
    """An error unless it has what a comparison reads of it."""
    _ = [(feature["name"], feature["type"], feature["used"], feature["missing"]) for feature in contract["features"]]
    _ = used_features(contract), read_split(contract)["share"]
    _ = contract["task"], contract["target"]["name"], contract["target"]["classes"]


def _read_sweep(run: Path) -> dict:
    """The provenance of a sweep's run that was not proven, as far as sweep.json notes it for all of its runs."""
    try:
        made = read_json(run.parent / SWEEP)["made_from"]
        return {
            "data": {"sha256": made["the data"]},
            "modeler": made["the package modeler"],
            "python": made["Python"],
            "packages": made["a package"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check_target(sides: Sequence[Side]) -> None:
    """A UsageError unless all sides whose contract is there predict the same, with the same classes."""
    first, *others = [side for side in sides if side.contract] or [None]
    for other in others:
        for what, ours, theirs in zip(("target", "task", "classes"), _name_target(first), _name_target(other)):
            if ours != theirs:
                raise UsageError(
                    f"{first.name} and {other.name} cannot be compared, for they predict different things: "
                    f"the {what} of the first {_agree(what)} {ours}, of the second {theirs}"
                )


def _agree(what: str) -> str:
    return "are" if what == "classes" else "is"


def _name_target(side: Side) -> tuple[str, str, str]:
    target = side.contract["target"]
    classes = [json.dumps(label, ensure_ascii=False) for label in target["classes"] or []]
    return repr(target["name"]), side.contract["task"], list_names(classes)
