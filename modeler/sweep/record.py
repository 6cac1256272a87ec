"""What a sweep has done so far: sweep.json, and one run folder a combination."""

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modeler import ModelerError, UsageError
from modeler.model.contract import write_json
from modeler.runs.execute import Execution, hash_files, read_files
from modeler.sweep.step import RUN, Result, write_files

FILE = "sweep.json"
PROVEN = ["eda.html", "train.html", "golden.json", "reference.json", "provenance.json", "verdict.json"]
PROVEN += ["card.md", "card.html"]  # what proving a run adds to it


@dataclass
class Sweep:
    """A sweep's folder. `options` are those it was begun with, `made_from` describes data, notebooks and code.

    `combinations` are in their order: dicts with `parameters`, `score`, `spread`, `seconds`, `run` and `error`; one that is
    still to be done has neither a score nor an error. `score` names what they are scored by, once it is known.
    """

    folder: Path
    options: dict
    made_from: dict
    combinations: list[dict] = field(default_factory=list)
    score: str = ""

    @property
    def varied(self) -> list[str]:
        """The parameters that are not the same in every combination."""
        told = [entry["parameters"] for entry in self.combinations]
        return [name for name in told[0] if any(other[name] != told[0][name] for other in told)]

    @property
    def rule(self) -> str:
        return (
            f"mean cross-validated {self.score or 'score'} on the training rows, the earlier of two equal; "
            "never the hold-out, which choosing by it would spend"
        )

    def rank(self) -> list[dict]:
        """The combinations with the best score first, then those without one."""
        return sorted(self.combinations, key=lambda entry: math.inf if entry["score"] is None else -entry["score"])

    def name_run(self, position: int) -> Path:
        width = max(2, len(str(len(self.combinations))))
        return self.folder / f"{position + 1:0{width}}"

    def name_first(self, number: int) -> Path:
        """Where the files of an execution of eda.ipynb are kept, which several combinations share."""
        return self.folder / f"eda-{number + 1:02}"

    def write(self) -> None:
        """Write sweep.json, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {"rule": self.rule, "score": self.score, "combinations": self.rank()}
        write_json(self.folder / FILE, told | {"options": self.options, "made_from": self.made_from})

    def take(self, position: int, first: Result, second: Result, data: Path | None) -> dict:
        """Keep what came of a combination: its run's folder appears whole, then sweep.json names it."""
        run, entry = self.name_run(position), self.combinations[position]
        draft = run.with_name(f".{run.name}")
        for old in (draft, run):
            shutil.rmtree(old, ignore_errors=True)
        write_files(draft, first.files | second.files)
        if data:
            (draft / data.name).symlink_to(data.resolve())
        draft.rename(run)
        score = spread = None
        error = second.error and second.error.replace(RUN, str(run))
        if not error:
            try:
                self.score, score, spread = read_score(second.files)
            except (KeyError, ValueError, TypeError, StopIteration):
                error = "train.ipynb wrote no `cv` into metrics.json that names a score; restore the cell that does"
        seconds = round(first.seconds + second.seconds, 3)
        entry |= {"score": score, "spread": spread, "seconds": seconds, "run": str(run), "error": error}
        self.write()
        return entry

    def read_first(self, number: int) -> Result | None:
        """What an execution of eda.ipynb left, if it was kept."""
        folder = self.name_first(number)
        if not folder.is_dir():
            return None
        return Result(read_files(folder, notebooks=True), None, _read_seconds(folder / "eda.ipynb"))

    def keep_first(self, number: int, result: Result) -> None:
        """Keep what an execution of eda.ipynb left, for the combinations that are done later, and to prove the best."""
        folder = self.name_first(number)
        if not result.error and not folder.is_dir():
            draft = folder.with_name(f".{folder.name}")
            shutil.rmtree(draft, ignore_errors=True)
            write_files(draft, result.files)
            draft.rename(folder)

    def read_executions(self, position: int, number: int) -> list[Execution]:
        """The executions of eda.ipynb and train.ipynb that made a run, which is as they left it."""
        run, first = self.name_run(position), self.name_first(number)
        shutil.rmtree(run / "reproduce", ignore_errors=True)
        for name in PROVEN:
            (run / name).unlink(missing_ok=True)
        return [
            Execution(run / "eda.ipynb", _read_seconds(run / "eda.ipynb"), {}, hash_files(first)),
            Execution(run / "train.ipynb", _read_seconds(run / "train.ipynb"), read_files(first), hash_files(run)),
        ]


def _read_seconds(executed: Path) -> float:
    """The seconds that an executed notebook took, as papermill noted them in it."""
    return float(json.loads(executed.read_text("utf-8"))["metadata"]["papermill"]["duration"])


def read_score(files: Mapping[str, bytes]) -> tuple[str, float, float]:
    """The name of the cross-validated score in metrics.json, its mean and its standard deviation over the folds."""
    cv = json.loads(files["metrics.json"])["cv"]
    entry = cv if "mean" in cv else next(one for one in cv["compared"] if one["estimator"] == cv["chosen"])
    if not math.isfinite(entry["mean"]):
        raise ValueError(entry["mean"])
    return cv["score"], entry["mean"], entry["std"]


def make_entry(parameters: dict) -> dict:
    """A combination that is still to be done."""
    return {"parameters": parameters} | dict.fromkeys(["score", "spread", "seconds", "run", "error"])


def read_sweep(runs: Path, name: str) -> dict:
    """What sweep.json says, of a sweep in the folder of all runs; a UsageError if there is no such sweep."""
    folder = runs / Path(name).name
    try:
        told = json.loads((folder / FILE).read_text("utf-8"))
        _ = dict(told["options"]), dict(told["made_from"]), [dict(entry) for entry in told["combinations"]]
    except FileNotFoundError:
        known = [path.parent.name for path in sorted(runs.glob(f"*/{FILE}"))]
        there = f"there is {' and '.join(known[-3:])}" if known else "there is none yet"
        raise UsageError(f"--resume {name}: no sweep of this name is in {runs}; {there}") from None
    except (ValueError, KeyError, TypeError):
        raise ModelerError(f"{folder / FILE} is damaged; start a new sweep") from None
    return told | {"folder": folder}


@contextmanager
def hold_sweep(folder: Path) -> Iterator[None]:
    """Let no other process work on a sweep meanwhile; a ModelerError if one does. The system lets go when the process ends."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ModelerError(f"another process works on the sweep {folder.name}; wait until it ends") from None
    finally:
        os.close(held)


def resume_sweep(told: dict, made_from: dict, parameters: list[dict]) -> Sweep:
    """The sweep as sweep.json has it, its combinations in their order; those that failed or never ended are to be done.

    A ModelerError names what changed since it began.
    """
    folder = told["folder"]
    check_unchanged(folder.name, told["made_from"], made_from)
    sweep = Sweep(folder, told["options"], made_from, [make_entry(one) for one in parameters], told["score"])
    known = {json.dumps(entry["parameters"], sort_keys=True): entry for entry in told["combinations"]}
    for position, entry in enumerate(sweep.combinations):
        found = known.get(json.dumps(entry["parameters"], sort_keys=True))
        if found and found["score"] is not None and sweep.name_run(position).is_dir():
            entry |= found | {"run": str(sweep.name_run(position))}  # the project may have moved
    return sweep


def check_unchanged(name: str, then: dict, now: dict) -> None:
    """Raise a ModelerError that names what a sweep's combinations would not have in common."""
    if changed := [what for what in then | now if then.get(what) != now.get(what)]:
        raise ModelerError(
            f"the sweep {name} cannot go on: {', '.join(changed)} changed since it began, and scores of before "
            "cannot be compared with those of now; start a new sweep"
        )
