"""The image beside BentoML's default image of the same model: python benchmarks/image.py [ROUNDS] [SECONDS]

Needs a Docker engine and `pip install -r benchmarks/requirements.txt`. Every round builds both without a cache, then starts,
loads and stops both, one worker each; ours runs hardened, the other as it comes.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import PEERS, ROOT, Client, prepare, run_clients

from modeler.ship.run import HARDENED

OURS, DEFAULT = "this image", "BentoML default"
PEER = """\
service: bentoml_sklearn:Peer
include: [bentoml_sklearn.py]
models: ["peer:latest"]
python:
  lock_packages: false
  packages: [{packages}]
"""


def main(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment, rows = prepare(Path(folder))
        peer = write_peer(Path(folder) / "peer")
        results = {OURS: [], DEFAULT: []}
        for number in range(rounds):
            for name, project, options in ((OURS, ROOT, HARDENED), (DEFAULT, peer, [])):
                image, built = build(project, environment)
                figures = {
                    "build s": built,
                    "MB": float(docker("image", "inspect", image, "--format", "{{.Size}}")) / 1e6,
                }
                results[name].append(figures | measure(image, options, rows[:1], seconds))
                print(f"round {number + 1}: {name:16} {results[name][-1]}", flush=True)
                layers = list_layers(image) if number == rounds - 1 else []
                print("".join(f"    {size:>8}  {step}\n" for size, step in layers), end="")
                docker("rmi", "--force", image)
        show(results)


def write_peer(folder: Path) -> Path:
    """A project of the peer service as BentoML's documentation shows one, with the versions this environment has."""
    folder.mkdir()
    (folder / "bentoml_sklearn.py").write_text(
        (PEERS / "bentoml_sklearn.py").read_text().replace("workers=2", "workers=1")
    )
    locked = (ROOT / "requirements.txt").read_text()
    packages = [re.search(rf"^{name}==.*$", locked, re.M)[0] for name in ("scikit-learn", "pandas", "joblib")]
    (folder / "bentofile.yaml").write_text(PEER.format(packages=", ".join(packages)))
    return folder


def build(project: Path, environment: dict[str, str]) -> tuple[str, float]:
    """Build bento and image, and return the image's tag and the seconds of `bentoml containerize`."""
    bentoml = [sys.executable, "-m", "bentoml"]
    told = run([*bentoml, "build", "--output", "tag"], environment, project)
    bento = told.partition("__tag__:")[2].strip()
    started = time.perf_counter()
    run([*bentoml, "containerize", bento, "--image-tag", bento, "--opt", "no-cache"], environment)
    return bento, time.perf_counter() - started


def measure(image: str, options: list[str], rows: list[dict], seconds: float) -> dict[str, float]:
    """Start the image, ask it, load it with 16 clients and stop it."""
    started = time.perf_counter()
    container = Container(docker("run", "--detach", *options, "--publish", "127.0.0.1::3000", image))
    try:
        while True:
            try:
                Client(container.port, rows).ask()
                break
            except OSError:
                if time.perf_counter() - started > 60:
                    sys.exit(docker("logs", container.id))
                time.sleep(0.02)
        first = time.perf_counter() - started
        time.sleep(2)
        rest = container.memory
        load = run_clients(container, rows, 16, seconds)
        loaded = container.memory
        started = time.perf_counter()
        docker("stop", "--time", "30", container.id)
        stopped = time.perf_counter() - started
        status = int(docker("inspect", container.id, "--format", "{{.State.ExitCode}}"))
    finally:
        docker("rm", "--force", container.id)
    return {
        "first answer s": first, "MiB at rest": rest, "MiB loaded": loaded, "req/s 16": load["rps"], "stop s": stopped,
        "exit": status,
    }  # fmt: skip


class Container:
    """A running container, as `run_clients` wants a server."""

    cpu_seconds = 0

    def __init__(self, container: str):
        self.id = container
        self.port = int(docker("port", container, "3000/tcp").rpartition(":")[2])

    @property
    def memory(self) -> float:
        """MiB as `docker stats` shows them, without the page cache."""
        used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", self.id).partition("/")[0].strip()
        number, unit = re.fullmatch(r"([0-9.]+)([KMG]iB)", used).groups()
        return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def list_layers(image: str) -> list[tuple[str, str]]:
    """Size and step of every layer above 100 kB, the newest first."""
    layers = docker("history", "--no-trunc", "--format", "{{json .}}", image).splitlines()
    named = [(layer["Size"], layer["CreatedBy"]) for layer in map(json.loads, layers)]
    steps = [(size, re.sub(r"^RUN (\|\d+ )?(BENTO_\w+=\S+ )*|\s+", " ", step).strip()[:90]) for size, step in named]
    return [(size, step or "base image") for size, step in steps if size.endswith(("MB", "GB"))]


def docker(*words: str) -> str:
    return run(["docker", *words], None).strip()


def run(words: list[str], environment: dict[str, str] | None, folder: Path | None = None) -> str:
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def show(results: dict[str, list[dict]]) -> None:
    print(f"\n{os.cpu_count()} cores, {len(results[OURS])} rounds, median (min to max)\n{'':16}{OURS:>28}{DEFAULT:>28}")
    for key in results[OURS][0]:
        line = f"{key:16}"
        for figures in results.values():
            values = [part[key] for part in figures]
            line += f"{f'{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})':>28}"
        print(line)


if __name__ == "__main__":
    if not shutil.which("docker"):
        sys.exit("install Docker Engine first")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, float(sys.argv[2]) if len(sys.argv) > 2 else 6)
