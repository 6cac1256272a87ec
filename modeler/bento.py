"""The bento: which model it holds, what it says of it, and how one is built and run to be verified."""

import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bentoml
import yaml
from bentoml.images import Image
from bentoml.models import BentoModel

from modeler import ModelerError
from modeler.store import find_model, store_home

UV = Path(__file__).with_name("uv.sh")
SECONDS = 60  # that a bento may take until it answers


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
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag", str(project)]
    if name != "breast_cancer":
        command += ["--arg", f"model={name}"]
    done = subprocess.run(command, env=os.environ | {"BENTOML_DO_NOT_TRACK": "True"}, capture_output=True, text=True)
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        raise ModelerError(f"the bento cannot be built: {told[-1] if told else f'exit {done.returncode}'}")
    return next(line for line in told if line.startswith("__tag__:")).removeprefix("__tag__:")


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"BENTOML_DO_NOT_TRACK": "True"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_answer(url, process, f"the bento {tag}", log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _await_answer(url: str, process: subprocess.Popen, what: str, log) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/livez", timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                told = [line for line in log.read().splitlines() if line.strip()]
                raise ModelerError(f"{what} does not start: {told[-1] if told else 'it says nothing'}") from None
            time.sleep(0.1)


def _require(tag) -> None:
    try:
        find_model(str(tag))
    except ModelerError as error:
        raise SystemExit(str(error)) from None
