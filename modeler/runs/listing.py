"""Every run there is, the newest first, as the files of its folder tell: also one that failed, of a sweep, or of before."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from modeler.model.contract import read_json
from modeler.model.stored import slugify
from modeler.runs.ending import FAILED, find_ending, shorten
from modeler.runs.folders import RANKED, read_start

NOTEBOOKS = ("eda.ipynb", "train.ipynb")
PRIMARY = ("roc_auc", "r2", "accuracy", "mae")  # the first that a run has is its score
HASH = 12  # hex digits of the data's hash that are shown


def list_runs(runs: Path, defaults: Mapping[str, object]) -> list[dict]:
    """Describe every run by what is known of it; `defaults` are the values that the notebooks give their parameters today.

    Each has `run` (its folder), `when`, `name`, `model`, `verdict`, `score` (`name`, `value`, `low`, `high` of the 95 % interval,
    or `spread` over the folds in a sweep), `parameters` that are not the defaults, `data` (hash), `seconds` and `error`; None
    where that is not known.
    """
    listed = []
    for folder in sorted(runs.glob("*-*-*"), reverse=True):
        began = read_start(folder)
        if began and (folder / "sweep.json").exists():
            listed += _list_combinations(folder, began, defaults)
        elif began and any((folder / name).exists() for name in ("provenance.json", "verdict.json", *NOTEBOOKS)):
            listed.append(_describe_run(folder, began, defaults))
    return listed


def _list_combinations(sweep: Path, began: datetime, defaults: Mapping) -> list[dict]:
    """The runs of a sweep, of which only the best is judged and has a provenance.json."""
    told = _read(sweep / "sweep.json")
    options, sha256 = _get(told, "options", {}), _get(_get(told, "made_from", {}), "the data", "")
    name = _get(options, "name", "") or slugify(Path(_get(options, "data", "")).stem) or None
    entries = {Path(_get(entry, "run", "")).name: entry for entry in _get(told, "combinations", [])}
    listed = []
    for folder in sorted((path for path in sweep.iterdir() if path.name.isdigit()), reverse=True):
        run, entry = _describe_run(folder, began, defaults), entries.get(folder.name, {})
        run |= {"name": run["name"] or name, "data": run["data"] or sha256[:HASH] or None}
        run["seconds"] = _get(entry, "seconds", 0.0) or run["seconds"]
        if error := _get(entry, "error", ""):
            run |= {"verdict": FAILED, "error": shorten(error)}
        elif run["error"] and isinstance(entry.get("score"), float):
            score = {"name": _get(told, "score", ""), "value": entry["score"], "low": None, "high": None}
            run |= {"verdict": RANKED, "error": None, "score": score | {"spread": _get(entry, "spread", 0.0)}}
        listed.append(run)
    return listed


def _describe_run(folder: Path, began: datetime, defaults: Mapping) -> dict:
    verdict, provenance = _read(folder / "verdict.json"), _read(folder / "provenance.json")
    data, candidate = _get(provenance, "data", {}), _get(verdict, "candidate", "")
    decided, error = _get(verdict, "verdict", ""), None
    if not decided:
        decided, error = find_ending(folder)
    told = _get(provenance, "parameters", {}) or {name: _read_told(folder / name) for name in NOTEBOOKS}
    told = {name: value for notebook in NOTEBOOKS for name, value in _get(told, notebook, {}).items()}
    return {
        "run": str(folder),
        "when": began.isoformat(timespec="seconds"),
        "name": _get(provenance, "name", "") or _get(data, "name", "") or candidate.partition(":")[0] or None,
        "model": candidate or None,
        "verdict": decided,
        "score": None if error else _find_score(_read(folder / "metrics.json"), _get(verdict, "intervals", {})),
        "parameters": {
            name: told[name] for name in told if name != "out" and str(told[name]) != str(defaults.get(name))
        },
        "data": _get(data, "sha256", "")[:HASH] or None,
        "seconds": _get(verdict, "seconds", 0.0) or None,
        "error": error,
    }


def _find_score(metrics: Mapping, intervals: Mapping) -> dict | None:
    """The primary score on the hold-out, with its 95 % interval where the run noted one."""
    name = next((name for name in PRIMARY if isinstance(metrics.get(name), float)), None)
    low, high = (*_get(intervals, name, []), None, None)[:2]
    return name and {"name": name, "value": metrics[name], "low": low, "high": high, "spread": None}


def _read_told(executed: Path) -> dict:
    """The parameters that papermill noted in a notebook, for a run that wrote none down."""
    return _get(_get(_get(_read(executed), "metadata", {}), "papermill", {}), "parameters", {})


def _read(path: Path) -> dict:
    """A JSON object; empty where the file is missing or damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _get(content: object, name: str | None, default):
    """A value of the default's type; the default where it is missing or damaged."""
    value = content.get(name) if isinstance(content, Mapping) else None
    return value if isinstance(value, type(default)) else default
