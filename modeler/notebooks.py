"""The notebooks as jobs: executed by papermill, executed again and compared by nbval, exported as HTML."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError

CELL_TIMEOUT = 3600  # seconds
COMPARED, IGNORED = "compared", "ignored"  # what modeler.nbval_report says of a cell that is in order
ADDRESSED = ".skops"  # skops writes memory addresses into its files: the gate compares their answers, not their bytes
NBVAL = (  # no configuration and no plugin but these, whatever the project or the user has
    f"-c {os.devnull} --rootdir . --noconftest -q --color=no -p no:cacheprovider -p nbval.plugin -p modeler.nbval_report "
    "--nbval --nbval-current-env --nbval-kernel-startup-timeout 120 "
)
SOCKET_PATH = 96  # bytes; the system takes 104 to 108 for the name of a socket file, which has a few more letters
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

    Raises
    ------
    ModelerError
        Naming the cell that failed, ran out of time or lost its kernel, with the last lines of what it said, or a file
        of `writes` that is not there afterwards.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    executed, given, started = run / notebook.name, _read_files(run), time.monotonic()
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
    left = {name: hashlib.sha256(content).hexdigest() for name, content in _read_files(run).items()}
    return Execution(executed, time.monotonic() - started, given, left)


def reproduce_notebooks(
    executions: list[Execution], run: Path, report: Report, timeout: int = CELL_TIMEOUT
) -> list[int]:
    """Execute the executed notebooks again side by side, under nbval, and compare every output and every file written.

    Each runs in a fresh folder with the files the first execution found, and with another PYTHONHASHSEED.

    Returns
    -------
    list of int
        How many cells of each notebook were compared.

    Raises
    ------
    ModelerError
        When an output or a file differs, or a code cell was not compared. The second execution is kept.
    """
    folder = run / "reproduce"
    replays = []
    try:
        for execution in executions:
            replays.append(_start_replay(execution, folder / execution.path.stem, timeout))
        while any(replay.process.poll() is None for replay in replays):
            for replay in replays:
                report(f"{replay.execution.path.name} again", len(replay.read_cells()), replay.expected)
            time.sleep(0.1)
    finally:
        _stop([replay.process for replay in replays])
    compared = [_check_replay(replay) for replay in replays]
    shutil.rmtree(folder)
    return compared


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


def localize_kernels(manager: type) -> type:
    """A kernel manager whose kernels are reached by socket files in the folder for temporary files.

    jupyter_client picks free TCP ports and gives them up until the kernel takes them; about one kernel in 300 on a busy
    machine found one of its ports taken, and died.
    """

    class LocalKernelManager(manager):
        def __init__(self, **settings):
            file = Path(tempfile.gettempdir(), f"kernel-{uuid.uuid4().hex[:12]}.json")
            transport = "ipc" if len(os.fsencode(file)) < SOCKET_PATH else "tcp"
            super().__init__(transport=transport, connection_file=str(file), **settings)

    return LocalKernelManager


class _Progress:
    """Counts the code cells of the notebook under way, and reports them."""

    def __init__(self, name: str, report: Report):
        self.name, self.report, self.done, self.cells = name, report, 0, 0

    @property
    def where(self) -> str:
        return f"{self.name}, cell [{self.done + 1}] of {self.cells},"

    def start_cell(self, cells: list, index: int) -> None:
        code = [position for position, cell in enumerate(cells) if _is_code(cell)]
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
            return client.execute(env=_kernel_environment(hash_seed=0), stderr=subprocess.DEVNULL)

    return Engine


def _kernel_environment(hash_seed: int) -> dict[str, str]:
    return os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"}


def _describe_failure(where: str, error, executed: Path) -> str:
    if error.ename in ("ModelerError", "UsageError"):
        last_lines = error.evalue
    else:
        last_lines = "\n" + quote_end("\n".join(error.traceback) or f"{error.ename}: {error.evalue}", 8).rstrip()
    return f"{where} failed: {last_lines}\nThe executed notebook is {executed}"


@dataclass(frozen=True)
class _Replay:
    execution: Execution
    folder: Path
    expected: int
    process: subprocess.Popen

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def read_cells(self) -> list[dict]:
        report = self.folder.with_suffix(".cells")
        lines = report.read_text("utf-8").split("\n")[:-1] if report.exists() else []
        return [json.loads(line) for line in lines]


def _start_replay(execution: Execution, folder: Path, timeout: int) -> _Replay:
    folder.mkdir(parents=True)
    notebook = Path(shutil.copy(execution.path, folder))
    for name, content in execution.given.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    command = [sys.executable, "-m", "pytest", notebook.name, *NBVAL.split(), "--nbval-cell-timeout", str(timeout)]
    command += ["--cells-report", str(folder.with_suffix(".cells"))]
    environment = _kernel_environment(hash_seed=1) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return _Replay(execution, folder, sum(map(_is_code, cells)), process)


def _check_replay(replay: _Replay) -> int:
    name, cells = replay.execution.path.name, replay.read_cells()
    where = f"The second execution is in {replay.folder}"
    for cell in cells:
        if cell["outcome"] not in (COMPARED, IGNORED):
            raise ModelerError(
                f"{name} is not reproducible: cell [{cell['number']}] {cell['outcome']}\n{cell['message']}"
                "Take randomness from random_state alone, round what is printed, and run every cell. " + where
            )
    compared = sum(cell["outcome"] == COMPARED for cell in cells)
    if not compared or len(cells) < replay.expected:
        ended = len(cells) == replay.expected
        reason = "there is nothing to compare" if ended else f"nbval did not get to its end (see {replay.log})"
        raise ModelerError(
            f"{name} is not proven: {compared} of {replay.expected} cells were compared, {reason}. {where}"
        )
    left = replay.execution.left
    again = {name: hashlib.sha256(content).hexdigest() for name, content in _read_files(replay.folder).items()}
    differing = sorted(file for file in left.keys() | again.keys() if left.get(file) != again.get(file))
    if differing := [file for file in differing if not file.endswith(ADDRESSED)]:
        raise ModelerError(
            f"{name} is not reproducible: {', '.join(differing)} differed the second time, though every output was the "
            f"same. Something random is not seeded: give it random_state. {where}"
        )
    return compared


def _stop(processes: list[subprocess.Popen]) -> None:
    """End processes and the kernels they started: politely, then for good."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)  # pytest then shuts its kernel down
    for process in running:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()  # the kernel notices that its parent is gone, and ends
            process.wait()


def _is_code(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def _read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the notebooks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".ipynb")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
