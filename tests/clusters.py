"""Real programs of Dask for the tests: a scheduler and workers in folders of their own."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conftest import default_signals

DASK = Path(sys.executable).with_name("dask")


def start_scheduler(stack: ExitStack, folder: Path) -> str:
    """The address of a scheduler that runs until the stack is closed."""
    told = folder / "told.json"
    words = "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", told, "--no-dashboard"
    stack.enter_context(_start(*words, folder=folder / "scheduler"))
    wait_for(lambda: told.exists() and told.read_text().endswith("}"))
    return json.loads(told.read_text())["address"]


def start_worker(address: str, folder: Path):
    """A worker as a context, with one thread; its process."""
    words = "worker", address, "--host", "127.0.0.1", "--nthreads", 1, "--no-nanny", "--no-dashboard"
    return _start(*words, "--local-directory", folder / "scratch", folder=folder)


@contextmanager
def _start(*words, folder: Path):
    """A program of Dask with an empty home, and without this project on its path."""
    for name in ("home", "work"):
        (folder / name).mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HOME": str(folder / "home"), "BENTOML_HOME": str(folder / "home" / "none")}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [DASK, *map(str, words)], cwd=folder / "work", env=environment, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=default_signals,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 120) -> None:
    """Wait until a condition holds, as long as a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)
