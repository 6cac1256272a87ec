"""Executing a notebook with papermill in a run's folder, and exporting it as HTML."""

import hashlib
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError
from modeler.inside import leave_out_grammar
from modeler.model.contract import read_json
from modeler.runs.kernels import kernel_environment, localize_kernels

CELL_TIMEOUT = 3600  # seconds
SECONDS = re.compile(rb'"seconds": [\d.e-]+')
ANSI = re.compile(r"\x1b\[[0-9;]*m")
Report = Callable[[str, int, int], None]  # notebook, cells done, cells


@dataclass(frozen=True)
class Execution:
    """One execution of a notebook in a run's folder: the files that were there before, and the SHA-256 of those after."""

    path: Path
    seconds: float
    given: dict[str, bytes]
    left: dict[str, str]


def execute_notebook(
    notebook: Path, run: Path, parameters: dict, writes: list[str], report: Report, timeout: int = CELL_TIMEOUT
) -> Execution:
    """Execute a notebook in the run's folder; the executed notebook stays there, even if a cell fails.

    A ModelerError names the cell that failed, ran out of time or lost its kernel, with the last lines of its error, or a
    file of `writes` that is missing afterwards.
    """
    leave_out_grammar()
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    executed, given, started = run / notebook.name, read_files(run), time.monotonic()
    progress = _Progress(notebook.name, report)
    engine = f"modeler-{threading.get_ident()}"  # several threads may execute at once
    papermill.engines.papermill_engines.register(engine, _make_engine(progress, run, timeout))
    try:
        papermill.execute_notebook(
            notebook, executed, parameters, engine_name=engine, kernel_name="python3", progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        raise ModelerError(_describe_failure(progress.where, error, executed)) from None
    except CellTimeoutError:
        raise ModelerError(
            f"{progress.where} ran longer than {timeout} s and was stopped; "
            f"make it quicker or allow more with --cell-timeout. So far: {executed}"
        ) from None
    except DeadKernelError:
        lost = "lost its kernel; out of memory is the usual reason"
        raise ModelerError(f"{progress.where} {lost}. So far: {executed}") from None
    except RuntimeError as error:  # of jupyter_client: the kernel does not start
        what = f"no kernel could be started ({error}); is ipykernel installed here?"
        raise ModelerError(f"{notebook.name}: {what}") from None
    report(notebook.name, progress.cells, progress.cells)
    if missing := [name for name in writes if not (run / name).exists()]:
        raise ModelerError(
            f"{notebook.name} ran to its end without writing {' and '.join(missing)}; restore the cell that does"
        )
    return Execution(executed, time.monotonic() - started, given, hash_files(run))


def execute_page(notebook: Path, run: Path, parameters: dict, written: str, report: Report) -> dict:
    """Execute a notebook that nothing has to prove, as a page too, and return what it wrote as JSON into the run's folder."""
    export_html(execute_notebook(notebook, run, parameters, [written], report).path)
    return read_json(run / written)


def export_html(executed: Path) -> None:
    """Write an executed notebook as an HTML page beside it, which loads nothing from outside."""
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
    """Counts the code cells that have started, and reports how many are done."""

    def __init__(self, name: str, report: Report):
        self.name, self.report, self.started, self.cells = name, report, 0, 0

    @property
    def where(self) -> str:
        return f"{self.name}, cell [{self.started}] of {self.cells},"

    def start_cell(self, cell, cell_index) -> None:
        if is_code(cell):
            self.report(self.name, self.started, self.cells)
            self.started += 1


def _make_engine(progress: _Progress, run: Path, timeout: int):
    from jupyter_client import AsyncKernelManager
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Engine(NBClientEngine):
        """papermill's own engine, but it sets the kernel's environment and reports each cell."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **_):
            paths = dict.fromkeys(("input_path", "output_path"), progress.name)  # no path of this machine
            nb_man.nb.metadata.papermill |= paths
            progress.cells = sum(map(is_code, nb_man.nb.cells))
            client = PapermillNotebookClient(
                nb_man,
                resources={"metadata": {"path": str(run)}},  # papermill's own `cwd` moves this whole process there
                kernel_manager_class=localize_kernels(AsyncKernelManager),
                kernel_name=kernel_name,
                on_cell_start=progress.start_cell,
                timeout=timeout,
                startup_timeout=120,
                iopub_timeout=60,  # nbclient's default of 4 s is short on a busy machine
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


def read_files(folder: Path, *, notebooks: bool = False) -> dict[str, bytes]:
    """Every file below a folder, except links such as the one to the data and, unless they are wanted, notebooks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in files if notebooks or path.suffix != ".ipynb"
    }


def hash_files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file; the seconds that metrics.json notes differ each time and do not count."""
    contents = read_files(folder)
    if "metrics.json" in contents:
        contents["metrics.json"] = SECONDS.sub(b"", contents["metrics.json"])
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
