"""Old runs and samples: whose they are, whether somebody still works on them, and how they are deleted."""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from modeler.data.sample import SAMPLES
from modeler.model.stored import CONTRACT, GRAPH, content_version, slugify, store_home
from modeler.runs.folders import is_at_work, read_process, read_start

SAMPLED = re.compile("[0-9a-f]{12}")
DECIDED = ["verdict.json", "drift.json", "compare.json", "failed.json"]  # one of them is the last that a run writes
HIDDEN = ".pruned"
RECENT = 3600  # seconds since a change, within which a process of another machine or container may be at work
USED = "a run that still works uses it"
NAMES = [
    ["verdict.json", "candidate"],
    ["provenance.json", "name"],
    ["drift.json", "model"],
    ["sweep.json", "options", "name"],
]
NAMES += [["provenance.json", "data", "name"]]
DATA = [["sweep.json", "options", "data"], ["eda.ipynb", "metadata", "papermill", "parameters", "data"]]


def list_folders(runs: Path) -> list[Path]:
    """The folders of runs and of sweeps, the newest first."""
    found = [path for path in runs.iterdir() if read_start(path)] if runs.is_dir() else []
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), reverse=True)


def find_name(folder: Path) -> str | None:
    """The name of the model that a run or a sweep is about, as far as its files tell it."""
    for file, *place in NAMES:
        if told := _get(_read(folder / file), *place):
            return told.partition(":")[0]
    stored = (store_home() / "models").resolve()
    if linked := sorted(path.parent.name for path in find_links([folder]) if path.parent.parent == stored):
        return linked[0]
    data = [_get(_read(folder / file), *place) for file, *place in DATA]  # what a model is called after, unless told
    data += [path.name for path in folder.iterdir() if path.is_symlink() and path.suffix]
    return next((slugify(Path(one).stem) for one in data if one), None)


def explain_undecided(folder: Path) -> str | None:
    """Why a run or a sweep without a verdict may still be worked on; None where it has one, or nobody is there any more."""
    if _is_held(folder):
        return "a process works on it"
    if any((run / name).exists() for run in _list_runs([folder]) for name in DECIDED):
        return None
    if is_at_work(folder):
        return f"its process {read_process(folder)} is at work"
    changed = max(map(_read_change, (folder, *folder.rglob("*"))))
    return "it has no verdict and was changed within the last hour" if time.time() - changed < RECENT else None


def find_used(folders: Iterable[Path], name: str) -> dict[str, str]:
    """The versions of a name that runs use, by links to them or as what they made themselves, with the reason."""
    versions = {
        target.name for target in find_links(folders) if target.parent == (store_home() / "models" / name).resolve()
    }
    for run in _list_runs(folders):
        if (run / GRAPH).is_file() and (run / CONTRACT).is_file():
            versions.add(content_version(run))
    return dict.fromkeys(versions, USED)


def find_links(folders: Iterable[Path]) -> set[Path]:
    """What the links in runs, and in the runs of sweeps, lead to."""
    return {path.resolve() for run in _list_runs(folders) for path in run.iterdir() if path.is_symlink()}


def list_samples(runs: Path, left: Iterable[Path]) -> dict[str, Path]:
    """The samples that no run of those left links to. One that was just taken is left to the run that is about to begin."""
    needed = {target.parent for target in find_links(left)}
    found = (
        [path for path in (runs / SAMPLES).iterdir() if SAMPLED.fullmatch(path.name)]
        if (runs / SAMPLES).is_dir()
        else []
    )
    old = [path for path in found if time.time() - path.stat().st_mtime >= RECENT and path.resolve() not in needed]
    return {f"{SAMPLES}/{path.name}": path for path in sorted(old)}


def delete_folder(folder: Path) -> None:
    """Delete a run or a sample, so that a kill in between leaves no half one, and what such a kill left before."""
    for rest in folder.parent.glob(f".*{HIDDEN}"):
        shutil.rmtree(rest)
    os.rename(folder, hidden := folder.with_name(f".{folder.name}{HIDDEN}"))
    shutil.rmtree(hidden)


def _list_runs(folders: Iterable[Path]) -> list[Path]:
    return [run for folder in folders for run in (folder, *(path for path in folder.iterdir() if path.is_dir()))]


def _read_change(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return time.time()  # just now


def _is_held(folder: Path) -> bool:
    """Whether a process holds a sweep's folder, as each does that executes its combinations."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(held)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _get(content: object, *names: str) -> str:
    """A text somewhere in an object of JSON; empty where it is missing."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, str) else ""
