"""Running a bento or an image to verify it."""

import http.client
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import bentoml

from modeler import ModelerError
from modeler.model.stored import store_home
from modeler.ship.build import BENTOML, bentoml_environment, check_engine, find_error, run_docker

SECONDS = 60  # that a bento or an image may take until it answers
# As little as the image needs: any user, no privileges, nothing to write to but memory.
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
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*BENTOML, "serve", tag, "--host", "127.0.0.1", "--port", str(port)],
            env=bentoml_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"

            def tell() -> str:
                log.seek(0)
                return log.read()

            _await_answer(url, lambda: process.poll() is not None, tell, f"the bento {tag}")
            yield url
        finally:
            process.terminate()
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
    try:
        url = f"http://{run_docker('port', container, '3000/tcp').stdout.strip()}"

        def ended() -> bool:
            return run_docker("inspect", container, "--format", "{{.State.Running}}").stdout.strip() != "true"

        def tell() -> str:
            logs = run_docker("logs", container)
            return logs.stdout + logs.stderr

        _await_answer(url, ended, tell, f"the image {image}")
        yield url
    finally:
        run_docker("rm", "--force", container)


def find_free_port() -> int:
    """A free TCP port, below those that a system hands out by itself, so that nobody is given it before it is used.

    BentoML and Jupyter kernels ask for such ports at every start.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def _await_answer(url: str, ended: Callable[[], bool], tell: Callable[[], str], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/livez", timeout=1).close()
            return
        except (OSError, ValueError, http.client.HTTPException):
            if ended() or time.monotonic() > deadline:
                raise ModelerError(f"{what} does not start: {find_error(tell())}") from None
            time.sleep(0.1)
