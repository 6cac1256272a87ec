"""How a run without a verdict ended: by what it noted or, where it could note nothing, by its notebooks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modeler import ModelerError
from modeler.model.contract import read_json, write_json
from modeler.runs.execute import is_code
from modeler.runs.folders import is_at_work

FAILURE = "failed.json"
FAILED, INTERRUPTED, RUNNING = "failed", "interrupted", "running"


@contextmanager
def note_failure(run: Path) -> Iterator[None]:
    """Write the sentence about a failure into a run that has no verdict yet."""
    try:
        yield
    except (ModelerError, OSError) as error:
        with suppress(OSError):
            if not (run / "verdict.json").exists():
                write_json(run / FAILURE, {"error": str(error)})
        raise


def find_ending(run: Path) -> tuple[str, str]:
    """How it ended, and where; a run whose process is still at work has not ended."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return FAILED, shorten(read_json(run / FAILURE)["error"])
    where, error = _find_cell(run)
    if error:
        return FAILED, f"{where} failed: {error}"
    return RUNNING if is_at_work(run) else INTERRUPTED, where


def shorten(sentence: str) -> str:
    """A failure in one line: where, and what the traceback ends in."""
    lines = [line.strip() for line in sentence.splitlines() if not line.startswith("The executed notebook is")]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and lines[1:] else lines[0]


def _find_cell(run: Path) -> tuple[str, str]:
    """The cell that a run came to, and the error it failed with."""
    where = "before eda.ipynb"
    for name in ("eda.ipynb", "train.ipynb"):
        try:
            cells = list(filter(is_code, json.loads((run / name).read_text("utf-8"))["cells"]))
        except FileNotFoundError:
            return where, ""
        except (OSError, ValueError, TypeError, KeyError):
            return f"{name}, which cannot be read", ""
        for number, cell in enumerate(cells, 1):
            errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
            ended = cell["metadata"].get("papermill", {}).get("end_time")  # one that never began is "completed" there
            if errors or not ended:
                told = f"{errors[0]['ename']}: {errors[0]['evalue'].partition(chr(10))[0]}" if errors else ""
                return f"{name}, cell [{number}] of {len(cells)},", told
        where = f"after {name}"
    return where + (", in the second execution" if (run / "reproduce").exists() else ""), ""
