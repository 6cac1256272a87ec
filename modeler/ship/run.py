"""Running a bento or an image to verify it."""

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import bentoml
import requests

from modeler import ModelerError
from modeler.model.stored import store_home
from modeler.ship.build import BENTOML, bentoml_environment, check_engine, find_error, run_docker

SECONDS = 60  # in which a bento or an image must answer
# The least that the image needs: any user, no privileges, nothing to write to but memory.
HARDENED = (
    "--user 12345 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 512m --pids-limit 100"
).split()


@contextmanager
def serve_bento(tag: str) -> Iterator[str]:
    """Run a bento of the local store on a free port, and yield its address once it answers."""
    try:
        bentoml.bentos.get(tag)
    except (bentoml.exceptions.BentoMLException, ValueError, OSError):
        raise ModelerError(
            f"there is no bento {tag} in the store {store_home()}; `bentoml list` shows what there is, "
            "and `python pipeline.py --build` makes one"
        ) from None
    port = find_free_port()
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [*BENTOML, "serve", tag, "--host", "127.0.0.1", "--port", str(port)],
            env=bentoml_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended, read_log = lambda: process.poll() is not None, Path(log.name).read_text
            yield _await_answer(f"127.0.0.1:{port}", ended, read_log, f"the bento {tag}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, at once
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def run_image(image: str) -> Iterator[str]:
    """Run an image hardened, as README does, and yield its address once it answers."""
    check_engine()
    started = run_docker("run", "--detach", "--pull", "never", *HARDENED, "--publish", "127.0.0.1::3000", image)
    if started.returncode:
        raise ModelerError(
            f"the image {image} does not run: {find_error(started.stderr)}; `docker images` shows what there is, "
            "and `python pipeline.py --containerize` makes one"
        )
    container = started.stdout.strip()

    def ended() -> bool:
        return run_docker("inspect", container, "--format", "{{.State.Running}}").stdout.strip() != "true"

    def read_log() -> str:
        logs = run_docker("logs", container)
        return logs.stdout + logs.stderr

    try:
        address = run_docker("port", container, "3000/tcp").stdout.strip()
        yield _await_answer(address, ended, read_log, f"the image {image}")
    finally:
        run_docker("rm", "--force", container)


def find_free_port() -> int:
    """A free TCP port below those that a system assigns itself, so that nobody else gets it before it is used.

    BentoML and Jupyter kernels have ports assigned at every start.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def _await_answer(address: str, ended: Callable[[], bool], read_log: Callable[[], str], what: str) -> str:
    """Return the URL of what was started once it answers; a ModelerError tells why it does not."""
    url, deadline = f"http://{address}", time.monotonic() + SECONDS
    while True:
        try:
            requests.get(f"{url}/livez", timeout=1).raise_for_status()
            return url
        except requests.RequestException:
            if ended() or time.monotonic() > deadline:
                raise ModelerError(f"{what} does not start: {find_error(read_log())}") from None
            time.sleep(0.1)
