"""Executing a notebook with papermill in a run's folder, and exporting it as HTML."""

import hashlib
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError
from modeler.runs.kernels import kernel_environment, localize_kernels

CELL_TIMEOUT = 3600  # seconds
ANSI = re.compile(r"\x1b\[[0-9;]*m")
Report = Callable[[str, int, int], None]  # notebook, cells done, cells


@dataclass(frozen=True)
class Execution:
    """One execution of a notebook in a run's folder: the files it found there, and what it left, by SHA-256."""

    path: Path
    seconds: float
    given: dict[str, bytes]
    left: dict[str, str]


def execute_notebook(
    notebook: Path, run: Path, parameters: dict, writes: list[str], report: Report, timeout: int = CELL_TIMEOUT
) -> Execution:
    """Execute a notebook in the run's folder; the executed notebook stays there, also when a cell fails.

    A ModelerError names the cell that failed, ran out of time or lost its kernel, with the last lines of what it said, or a
    file of `writes` that is not there afterwards.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    executed, given, started = run / notebook.name, read_files(run), time.monotonic()
    progress = _Progress(notebook.name, report)
    papermill.engines.papermill_engines.register("modeler", _make_engine(progress, timeout))
    try:
        papermill.execute_notebook(
            notebook, executed, parameters, engine_name="modeler", kernel_name="python3", cwd=run, progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        raise ModelerError(_describe_failure(progress.where, error, executed)) from None
    except CellTimeoutError:
        raise ModelerError(
            f"{progress.where} ran longer than {timeout} s and was stopped; "
            f"make it quicker or allow more with --cell-timeout. So far: {executed}"
        ) from None
    except DeadKernelError:
        raise ModelerError(
            f"{progress.where} lost its kernel; out of memory is the usual reason. So far: {executed}"
        ) from None
    except RuntimeError as error:  # what jupyter_client raises when a kernel does not come up
        raise ModelerError(
            f"{notebook.name}: no kernel could be started ({error}); is ipykernel installed here?"
        ) from None
    report(notebook.name, progress.cells, progress.cells)
    if missing := [name for name in writes if not (run / name).exists()]:
        raise ModelerError(
            f"{notebook.name} ran to its end without writing {' and '.join(missing)}; restore the cell that does"
        )
    left = {name: hashlib.sha256(content).hexdigest() for name, content in read_files(run).items()}
    return Execution(executed, time.monotonic() - started, given, left)


def export_html(executed: Path) -> None:
    """Write an executed notebook as one HTML page beside it that loads nothing from outside."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="", embed_images=True)
    page, _ = exporter.from_filename(str(executed))
    executed.with_suffix(".html").write_text(page, "utf-8")


def quote_end(text: str, most: int) -> str:
    """The last lines of a traceback or comparison, indented, without colours, rules and headings."""
    lines = [line.rstrip() for line in ANSI.sub("", text).splitlines()]
    telling = [line for line in lines if line.strip("- ") and "Traceback (most recent call last)" not in line]
    return "".join(f"    {line}"[:200] + "\n" for line in telling[-most:])


class _Progress:
    """Counts the code cells of the notebook under way, and reports them."""

    def __init__(self, name: str, report: Report):
        self.name, self.report, self.done, self.cells = name, report, 0, 0

    @property
    def where(self) -> str:
        return f"{self.name}, cell [{self.done + 1}] of {self.cells},"

    def start_cell(self, cells: list, index: int) -> None:
        code = [position for position, cell in enumerate(cells) if is_code(cell)]
        self.done, self.cells = sum(position < index for position in code), len(code)
        if index in code:
            self.report(self.name, self.done, self.cells)


def _make_engine(progress: _Progress, timeout: int):
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class OwnKernelManager(localize_kernels(AsyncKernelManager)):
        """Knows this Python's own kernel alone, like nbval: one that a user installed as python3 may be another Python."""

        def _kernel_spec_manager_default(self):
            return KernelSpecManager(kernel_dirs=[])

    class Engine(NBClientEngine):
        """papermill's own engine, with the kernel's environment set and every cell reported."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **_):
            def start_cell(cell, cell_index, _start=nb_man.cell_start):
                progress.start_cell(nb_man.nb.cells, cell_index)
                _start(cell, cell_index)

            paths = dict.fromkeys(("input_path", "output_path"), progress.name)  # papermill's are of this machine
            nb_man.nb.metadata.papermill |= paths
            nb_man.cell_start = start_cell
            client = PapermillNotebookClient(
                nb_man,
                kernel_manager_class=OwnKernelManager,
                kernel_name=kernel_name,
                timeout=timeout,
                startup_timeout=120,
                iopub_timeout=60,  # nbclient's own 4 s are short on a busy machine
            )
            return client.execute(env=kernel_environment(hash_seed=0), stderr=subprocess.DEVNULL)

    return Engine


def _describe_failure(where: str, error, executed: Path) -> str:
    if error.ename in ("ModelerError", "UsageError"):
        last_lines = error.evalue
    else:
        last_lines = "\n" + quote_end("\n".join(error.traceback) or f"{error.ename}: {error.evalue}", 8).rstrip()
    return f"{where} failed: {last_lines}\nThe executed notebook is {executed}"


def is_code(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the notebooks and links, as that to the data."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".ipynb")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
