"""One notebook of one combination on a worker: executed in a folder that only lives so long, its files brought back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError
from modeler.runs.execute import execute_notebook, read_files

RUN = "{run}"  # stands for the run's folder in an error, which is another one here than at the client


@dataclass(frozen=True)
class Step:
    """A notebook to execute: its name and bytes, its parameters, the files it must write, and the seconds of a cell."""

    name: str
    content: bytes
    parameters: dict
    writes: list[str]
    timeout: int


@dataclass(frozen=True)
class Result:
    """The files that a notebook left, itself included, by their names, what failed or None, and the seconds it took."""

    files: dict[str, bytes]
    error: str | None
    seconds: float


def execute_step(step: Step, given: dict[str, bytes], data: Path | None, scratch: Path) -> Result:
    """Execute a notebook beside the files that it is given and a link to the data file."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="run-") as folder:
        source, run = Path(folder, "source", step.name), Path(folder, "run")
        source.parent.mkdir()
        source.write_bytes(step.content)
        write_files(run, given)
        if data:
            (run / data.name).symlink_to(data)
        error, seconds = None, 0.0
        try:
            seconds = execute_notebook(source, run, step.parameters, step.writes, lambda *_: None, step.timeout).seconds
        except ModelerError as failed:
            error = str(failed).replace(str(run), RUN)
        files = read_files(run, notebooks=True)
        return Result({name: content for name, content in files.items() if given.get(name) != content}, error, seconds)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their names below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
