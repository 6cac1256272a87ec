"""An execution of eda.ipynb that an earlier run left, taken over by a run with the same inputs."""

import json
import shutil
from pathlib import Path

from modeler.model.contract import read_json
from modeler.runs.execute import Execution, hash_files, read_files
from modeler.runs.unchanged import has_same_eda

EDA = "eda.ipynb"
KEPT = "eda"  # in a run's folder: the files that eda.ipynb left, as they were before train.ipynb changed them


def keep_eda(run: Path, executions: list[Execution]) -> None:
    """Keep what eda.ipynb left, in a run whose notebooks were proven, for runs with the same inputs."""
    eda, train = executions
    for name in train.given.keys() - eda.given.keys():
        (run / KEPT / name).parent.mkdir(parents=True, exist_ok=True)
        (run / KEPT / name).write_bytes(train.given[name])


def find_eda(runs: Path, notebook: Path, provenance: dict) -> Path | None:
    """The latest run whose eda.ipynb was executed with the same inputs, and was not edited since; or None.

    `notebook` is the project's, `provenance` what the new run is made from.
    """
    for kept in sorted(runs.glob(f"*/{KEPT}"), reverse=True):
        try:
            then = read_json(kept.parent / "provenance.json")
            if has_same_eda(then, provenance, EDA) and _is_execution(kept.with_name(EDA), notebook, provenance):
                return kept.parent
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue  # a run that somebody damaged
    return None


def take_over(earlier: Path, run: Path, progress) -> Execution:
    """Copy eda.ipynb as executed, and the files it left, from an earlier run; the execution, with the seconds it took then."""
    progress.say(f"take over  {EDA} from run {earlier.name}, executed there with the same inputs")
    given = read_files(run)
    shutil.copytree(earlier / KEPT, run, dirs_exist_ok=True)
    executed = Path(shutil.copy(earlier / EDA, run))
    seconds = json.loads(executed.read_text("utf-8"))["metadata"]["papermill"]["duration"]
    return Execution(executed, seconds, given, hash_files(run))


def _is_execution(executed: Path, notebook: Path, provenance: dict) -> bool:
    """Whether the cells of an executed notebook are the notebook's, with the parameters put in."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    told = provenance["parameters"][EDA]
    original = parameterize_notebook(load_notebook_node(str(notebook)), told, kernel_name="python3")
    ours, theirs = (
        [(cell.cell_type, cell.source) for cell in one.cells] for one in (original, load_notebook_node(str(executed)))
    )
    return ours == theirs
