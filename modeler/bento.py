"""The bento and its image: which model they hold, what is said of it, and how they are built, and run to be verified."""

import base64
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bentoml
import yaml
from bentoml.images import Image
from bentoml.models import BentoModel

from modeler import ModelerError
from modeler.store import find_model, store_home

UV = Path(__file__).with_name("uv.sh")
BENTOML = (sys.executable, "-m", "bentoml")
SECONDS = 60  # that a bento or an image may take until it answers
# As little as the image needs: any user, no privileges, nothing to write to but memory.
HARDENED = (
    "--user 12345 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 512m --pids-limit 100"
).split()


class PinnedModel(BentoModel):
    """The model that `bentoml build` puts into a bento; where there is none, our own sentence says so."""

    def to_info(self, alias: str | None = None):
        _require(self.tag)
        return super().to_info(alias)

    def resolve(self, *arguments, **settings):
        _require(self.tag)
        return super().resolve(*arguments, **settings)


def read_bento_tag(service: Path) -> str | None:
    """The tag of the model in the bento that a service.py belongs to, or None where it belongs to none.

    A bento answers with the version it was built with, also where the store holds a newer one.
    """
    description = service.resolve().parents[1] / "bento.yaml"
    if service.resolve().parent.name != "src" or not description.is_file():
        return None
    return yaml.safe_load(description.read_text("utf-8"))["services"][0]["models"][0]["tag"]


def define_image(base: str) -> Image:
    """The image of a bento: what BentoML makes of the base, with `uv.sh` in the place of uv."""
    script = base64.b64encode(UV.read_bytes()).decode()
    place = "/usr/local/bin/uv"
    # A read-only file system has no room for the folders that BentoML makes at every start.
    folders = "mkdir -p /home/bentoml/bentos /home/bentoml/models /home/bentoml/envs /home/bentoml/tmp"
    return Image(base_image=base, distro="").run(
        f"echo {script} | base64 -d > {place} && chmod +x {place} && {folders}"
    )


def describe_bento(tag: str) -> dict:
    """A bento's `description` and `labels`: model, run, data and commit. Without such a model there is nothing to say."""
    try:
        model = find_model(tag)
        provenance, contract = model.read("provenance.json"), model.read("contract.json")
        run = yaml.safe_load((model.path / "model.yaml").read_text("utf-8"))["labels"]["run"]
    except (ModelerError, OSError, KeyError, TypeError):
        return {}
    git = provenance["git"] or {"commit": "none", "dirty": False}
    commit = git["commit"] + ("-dirty" if git["dirty"] else "")
    labels = {"model": model.tag, "run": run, "data": provenance["data"]["sha256"], "commit": commit}
    about = f"Predicts {contract['target']['name']} of {contract['name']}.\n\n"
    return {"labels": labels, "description": about + "".join(f"- {name}: {value}\n" for name, value in labels.items())}


def build_bento(project: Path, name: str) -> str:
    """Build the bento of the champion of that name as `bentoml build` does, and return the bento's tag."""
    named = [] if name == "breast_cancer" else ["--arg", f"model={name}"]
    told = _run_bentoml("the bento cannot be built", "build", "--output", "tag", *named, folder=project)
    return told.partition("__tag__:")[2].strip()


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
            env=_environment(),
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


def build_image(bento: str) -> str:
    """Build the image of a bento as `bentoml containerize` does, under the bento's tag and with its labels."""
    labels = [
        word for name, value in bentoml.bentos.get(bento).info.labels.items() for word in ("--label", f"{name}={value}")
    ]
    _run_bentoml(f"the image of {bento} cannot be built", "containerize", bento, "--image-tag", bento, *labels)
    return bento


@contextmanager
def run_image(image: str) -> Iterator[str]:
    """Run an image hardened, as README does, and yield its address once it answers."""
    check_engine()
    started = _docker("run", "--detach", "--pull", "never", *HARDENED, "--publish", "127.0.0.1::3000", image)
    if started.returncode:
        raise ModelerError(
            f"the image {image} does not run: {_find_error(started.stderr)}; `docker images` shows what there is, "
            "and `python pipeline.py --containerize` makes one"
        )
    container = started.stdout.strip()
    try:
        url = f"http://{_docker('port', container, '3000/tcp').stdout.strip()}"

        def ended() -> bool:
            return _docker("inspect", container, "--format", "{{.State.Running}}").stdout.strip() != "true"

        def tell() -> str:
            logs = _docker("logs", container)
            return logs.stdout + logs.stderr

        _await_answer(url, ended, tell, f"the image {image}")
        yield url
    finally:
        _docker("rm", "--force", container)


def check_engine() -> None:
    """Raise a ModelerError that says what to install, unless a Docker engine answers."""
    try:
        answers = _docker("version", "--format", "{{.Server.Version}}").returncode == 0
    except OSError:
        answers = False
    if not answers:
        raise ModelerError(
            "no Docker engine answers; install Docker Engine, start it, and try again when `docker version` shows a server"
        )


def _run_bentoml(failure: str, *words: str, folder: Path | None = None) -> str:
    """Run BentoML's command line and return what it prints; where it fails, say so with the line that tells most.

    It builds from the current folder alone, so the project's folder must be that.
    """
    done = subprocess.run([*BENTOML, *words], cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise ModelerError(f"{failure}: {_find_error(done.stdout + done.stderr)}")
    return done.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(store_home().absolute())}


def _docker(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", *words], capture_output=True, text=True)


def _find_error(text: str) -> str:
    """The line of a tool's output that tells most: the last that names an error, or the last of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    naming = [line for line in lines if "error" in line.lower()]
    return (naming or lines or ["it says nothing"])[-1]


def _await_answer(url: str, ended: Callable[[], bool], tell: Callable[[], str], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/livez", timeout=1).close()
            return
        except (OSError, ValueError, http.client.HTTPException):
            if ended() or time.monotonic() > deadline:
                raise ModelerError(f"{what} does not start: {_find_error(tell())}") from None
            time.sleep(0.1)


def _require(tag) -> None:
    try:
        find_model(str(tag))
    except ModelerError as error:
        raise SystemExit(str(error)) from None
