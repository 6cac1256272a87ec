"""Executing executed notebooks again with nbval, and comparing every output and file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError
from modeler.runs.execute import CELL_TIMEOUT, Execution, Report, hash_files, is_code
from modeler.runs.kernels import kernel_environment, prepare_child

COMPARED, IGNORED = "compared", "ignored"  # the outcomes of a good cell in runs.nbval_report
ADDRESSED = ".skops"  # skops writes memory addresses into its files: the gate compares their answers, not their bytes
NBVAL = (  # only these plugins, and no configuration of the project or the user
    f"-c {os.devnull} --rootdir . --noconftest -q --color=no -p no:cacheprovider -p modeler.runs.nbval_report "
    "--nbval --nbval-current-env --nbval-kernel-startup-timeout 120 "
)


def reproduce_notebooks(
    executions: list[Execution], run: Path, report: Report, timeout: int = CELL_TIMEOUT
) -> list[int]:
    """Execute the executed notebooks again in parallel, with nbval, and compare every output and every file.

    Each runs in a fresh folder with the files that the first execution found, and with another PYTHONHASHSEED. Returns the
    number of compared cells of each notebook. A ModelerError names an output or a file that differs, or a cell that was
    not compared; then the second execution stays.
    """
    folder, replays = run / "reproduce", []
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
    for link in filter(Path.is_symlink, execution.path.parent.iterdir()):  # to the data
        (folder / link.name).symlink_to(link.resolve())
    for name, content in execution.given.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    command = [sys.executable, "-m", "pytest", notebook.name, *NBVAL.split(), "--nbval-cell-timeout", str(timeout)]
    command += ["--cells-report", str(folder.with_suffix(".cells"))]
    environment = kernel_environment(hash_seed=1) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    with folder.with_suffix(".log").open("wb") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        apart = {"start_new_session": True, "preexec_fn": prepare_child()}
        process = subprocess.Popen(command, cwd=folder, env=environment, **streams, **apart)
    return _Replay(execution, folder, sum(map(is_code, cells)), process)


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
    differing = {file for file, _ in replay.execution.left.items() ^ hash_files(replay.folder).items()}
    if differing := sorted(file for file in differing if not file.endswith(ADDRESSED)):
        raise ModelerError(
            f"{name} is not reproducible: {', '.join(differing)} differed the second time, though every output was the "
            f"same. Something random is not seeded: give it random_state. {where}"
        )
    return compared


def _stop(processes: list[subprocess.Popen]) -> None:
    """End processes and the kernels they started: first by SIGINT, then by SIGKILL."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)  # pytest then shuts down its kernel
    for process in running:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()  # the kernel notices that, and ends
            process.wait()
