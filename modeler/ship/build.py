"""Building the bento of the champion, and its image, as BentoML's own commands do."""

import os
import subprocess
import sys
from pathlib import Path

import bentoml

from modeler import QUIET, ModelerError
from modeler.model.stored import store_home

BENTOML = (sys.executable, "-m", "bentoml")


def build_bento(project: Path, name: str) -> str:
    """Build the bento of a name's champion as `bentoml build` does, and return the bento's tag."""
    named = [] if name == "breast_cancer" else ["--arg", f"model={name}"]
    told = _run_bentoml("the bento cannot be built", "build", "--output", "tag", *named, folder=project)
    return told.partition("__tag__:")[2].strip()


def build_image(bento: str) -> str:
    """Build the image of a bento as `bentoml containerize` does, under the bento's tag and with its labels."""
    labels = [f"--label={name}={value}" for name, value in bentoml.bentos.get(bento).info.labels.items()]
    _run_bentoml(f"the image of {bento} cannot be built", "containerize", bento, "--image-tag", bento, *labels)
    return bento


def check_engine() -> None:
    """Raise a ModelerError that says what to install, unless a Docker engine answers."""
    if not answers_engine():
        raise ModelerError(
            "no Docker engine answers; install Docker Engine, start it, and try again when `docker version` shows a server"
        )


def answers_engine() -> bool:
    """Whether a Docker engine answers."""
    try:
        return run_docker("version", "--format", "{{.Server.Version}}").returncode == 0
    except OSError:
        return False


def _run_bentoml(failure: str, *words: str, folder: Path | None = None) -> str:
    """Run BentoML's command line and return what it prints; if it fails, a ModelerError repeats its most telling line.

    BentoML builds only from the current folder, so `folder` must be the project's.
    """
    done = subprocess.run([*BENTOML, *words], cwd=folder, env=bentoml_environment(), capture_output=True, text=True)
    if done.returncode:
        raise ModelerError(f"{failure}: {find_error(done.stdout + done.stderr)}")
    return done.stdout


def bentoml_environment() -> dict[str, str]:
    """Our environment with the store, without telemetry, and without bytecode, which would be written into the bento."""
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "BENTOML_HOME": str(store_home().absolute())}
    return os.environ | QUIET | settings


def run_docker(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", *words], capture_output=True, text=True)


def find_error(text: str) -> str:
    """The most telling line of a tool's output: the last that mentions an error, or else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    naming = [line for line in lines if "error" in line.lower()]
    return (naming or lines or ["it says nothing"])[-1]
