"""How fast the service answers beside its peers: python benchmarks/serving.py [ROUNDS] [SECONDS]

Needs `pip install -r benchmarks/requirements.txt`. Every server runs the same model in two processes on loopback, one
after the other within a round, so that a machine that slows down slows all of them. Where there are four cores, servers
and clients have two each. Needs Linux, which binds a process to cores and tells how much of its memory is shared.
"""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from modeler.service.access import make_key
from modeler.ship.run import find_free_port

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
CORES = os.cpu_count()
SERVER_CORES, CLIENT_CORES = ({0, 1}, {2, 3}) if CORES >= 4 else ({*range(CORES)}, {*range(CORES)})
OURS, CEILING = "this service", "ceiling (bare Starlette, ONNX)"
GUARDED = "this service, keys, rate and log on"
SOAK_MINUTES = 10
UVICORN = "-m uvicorn --host 127.0.0.1 --port {port} --workers 2 --loop uvloop --http httptools --no-access-log"
SERVE = "-m bentoml serve --host 127.0.0.1 --port {port} --arg workers=2"
SERVERS = {
    OURS: (ROOT, SERVE),
    "this service, prediction log on": (ROOT, f"{SERVE} --arg log={{log}}"),
    GUARDED: (ROOT, f"{SERVE} --arg log={{log}} --arg keys={{keys}} --arg rate=1000000"),
    CEILING: (PEERS, f"{UVICORN} ceiling:app"),
    "Flask, gunicorn, joblib": (PEERS, "-m gunicorn --bind 127.0.0.1:{port} --workers 2 flask_joblib:app"),
    "FastAPI, joblib": (PEERS, f"{UVICORN} fastapi_joblib:app"),
    "BentoML default, bentoml.sklearn": (PEERS, "-m bentoml serve bentoml_sklearn:Peer --host 127.0.0.1 --port {port}"),
}


def main(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment, rows = prepare(Path(folder))
        results = {name: [] for name in SERVERS}
        for number in range(rounds):
            for name in SERVERS:
                with Server(name, environment, rows[:1]) as server:
                    results[name].append(measure(server, rows, seconds))
                print(f"round {number + 1}: {name:34} {results[name][-1]['rps 16']:8.0f} req/s", flush=True)
        show(results)
        with Server(OURS, environment, rows[:1]) as server:
            explained = run_clients(server, rows[:1], 1, seconds, "/explain")
            print("\nPOST /explain, one row, one client: {p50:.2f} ms p50, {p99:.2f} ms p99".format(**explained))
        with Server(GUARDED, environment, rows[:1]) as server:
            print(f"{GUARDED}, under load from 16 clients, MiB every minute: {soak(server, rows[:1])}")


def prepare(folder: Path) -> tuple[dict[str, str], list[dict]]:
    """Retrain into a store of its own; the environment of the servers, and rows to send."""
    environment = os.environ | {"BENTOML_HOME": f"{folder}/bentoml", "BENTOML_DO_NOT_TRACK": "True"}
    project = folder / "project"
    project.mkdir()
    shutil.copy(ROOT / "pipeline.py", project)
    shutil.copytree(ROOT / "notebooks", project / "notebooks", ignore=shutil.ignore_patterns("out"))
    done = subprocess.run(
        [sys.executable, "pipeline.py", "--json"], cwd=project, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    run = Path(json.loads(done.stdout)["run"])
    environment |= {
        "BENCH_MODEL": str(run),
        "BENCH_PIPELINE": f"{folder}/pipeline.joblib",
        "BENCH_LOG": f"{folder}/log",
        "BENCH_KEYS": f"{folder}/keys",
    }
    os.environ["BENCH_KEY"], line = make_key("benchmark")  # every client sends it
    Path(folder, "keys").write_text(line)
    save = (
        "import sys, joblib, bentoml, skops.io as s; "
        "m = s.load(sys.argv[1], trusted=s.get_untrusted_types(file=sys.argv[1])); "
        "joblib.dump(m, sys.argv[2]); bentoml.sklearn.save_model('peer', m)"
    )
    words = [sys.executable, "-c", save, str(run / "model.skops"), environment["BENCH_PIPELINE"]]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return environment, json.loads((run / "golden.json").read_text())["rows"]


class Server:
    """A running server, ready to answer."""

    def __init__(self, name: str, environment: dict[str, str], rows: list[dict]):
        self.port = find_free_port()
        folder, words = SERVERS[name]
        log, keys = environment["BENCH_LOG"], environment["BENCH_KEYS"]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *words.format(port=self.port, log=log, keys=keys).split()],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORES),
            start_new_session=True,
        )
        while True:
            try:
                Client(self.port, rows).ask()
                break
            except OSError:
                if self._process.poll() is not None or time.perf_counter() - started > 60:
                    raise RuntimeError(f"{name} does not start") from None
                time.sleep(0.02)
        self.seconds_to_answer = time.perf_counter() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    @property
    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.family)

    @property
    def memory(self) -> float:
        """MiB of all its processes, shared pages counted once (PSS)."""
        return sum(process.memory_full_info().pss for process in self.family) / 2**20


class Client:
    """One connection that sends the same rows again and again, opened anew where the server closes it."""

    def __init__(self, port: int, rows: list[dict], path: str = "/predict"):
        body = json.dumps(rows).encode()
        head = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
        bearer = f"Authorization: Bearer {os.environ['BENCH_KEY']}\r\n\r\n"
        self._request = (head.format(path, len(body)) + bearer).encode() + body
        self._port, self._socket = port, None

    def ask(self) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        answer = self._socket.recv(1 << 20)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise OSError(answer[:300])
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(1 << 20)
        head, _, body = answer.partition(b"\r\n\r\n")
        head = head.lower()
        missing = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]) - len(body)
        while missing > 0:
            part = self._socket.recv(1 << 20)
            missing -= len(part)
            body += part
        if b"connection: close" in head:
            self._socket.close()
            self._socket = None
        return body


def load(port: int, rows: list[dict], seconds: float, answers, path: str = "/predict") -> None:
    """Ask for some seconds, and put the latencies."""
    os.sched_setaffinity(0, CLIENT_CORES)
    client, latencies = Client(port, rows, path), []
    for _ in range(20):
        client.ask()
    end = time.perf_counter() + seconds
    while (asked := time.perf_counter()) < end:
        client.ask()
        latencies.append(time.perf_counter() - asked)
    answers.put(latencies)


def run_clients(
    server: Server, rows: list[dict], count: int, seconds: float, path: str = "/predict"
) -> dict[str, float]:
    """Separate client processes, opened 20 ms apart: opened at once, one worker accepts them all."""
    answers, before, started = multiprocessing.Queue(), server.cpu_seconds, time.perf_counter()
    clients = []
    for _ in range(count):
        clients.append(multiprocessing.Process(target=load, args=(server.port, rows, seconds, answers, path)))
        clients[-1].start()
        time.sleep(0.02)
    latencies = sorted(sum((answers.get(timeout=seconds + 60) for _ in clients), []))
    for client in clients:
        client.join()
    requests = len(latencies) + 20 * count
    return {
        "rps": len(latencies) / seconds,
        "p50": 1000 * latencies[len(latencies) // 2],
        "p99": 1000 * latencies[int(len(latencies) * 0.99)],
        "cpu": 1e6 * (server.cpu_seconds - before) / requests,
        "elapsed": time.perf_counter() - started,
    }


def measure(server: Server, rows: list[dict], seconds: float) -> dict[str, float]:
    one, many = (run_clients(server, rows[:1], count, seconds) for count in (1, 16))
    figures = {f"{key} {count}": value for count, part in ((1, one), (16, many)) for key, value in part.items()}
    figures |= {"memory": server.memory, "start": server.seconds_to_answer}
    for size in (1000, 10_000):
        client = Client(server.port, (rows * (size // len(rows) + 1))[:size])
        client.ask()
        started = time.perf_counter()
        for _ in range(3):
            client.ask()
        figures[f"rows {size}"] = 3 * size / (time.perf_counter() - started)
    return figures


def soak(server: Server, rows: list[dict]) -> str:
    """The memory under load; a client that is answered anything but 200 ends it."""
    answers, seconds = multiprocessing.Queue(), 60 * SOAK_MINUTES
    clients = [multiprocessing.Process(target=load, args=(server.port, rows, seconds, answers)) for _ in range(16)]
    for client in clients:
        client.start()
        time.sleep(0.02)
    seen = [server.memory]
    for _ in range(SOAK_MINUTES):
        time.sleep(59.5)
        seen.append(server.memory)
    requests = sum(len(answers.get(timeout=60)) for _ in clients)
    return ", ".join(f"{memory:.0f}" for memory in seen) + f" ({requests} requests)"


def show(results: dict[str, list[dict]]) -> None:
    columns = {
        "req/s 1": "rps 1", "p50 ms": "p50 1", "p99 ms": "p99 1", "req/s 16": "rps 16", "p50 ms ": "p50 16",
        "p99 ms ": "p99 16", "CPU µs": "cpu 16", "MiB": "memory", "start s": "start", "rows/s 1k": "rows 1000",
        "rows/s 10k": "rows 10000",
    }  # fmt: skip
    rounds = len(results[OURS])
    print(f"\n{CORES} cores, {rounds} rounds, medians\n{'':34}" + "".join(f"{name:>11}" for name in columns))
    for name, figures in results.items():
        values = [statistics.median(part[key] for part in figures) for key in columns.values()]
        print(f"{name:34}" + "".join(f"{value:11.{2 if value < 100 else 0}f}" for value in values))
    print("\nthis service's requests/s at 16 clients, as a multiple of each (min, median, max of the rounds)")
    for name in SERVERS:
        ratios = sorted(ours["rps 16"] / theirs["rps 16"] for ours, theirs in zip(results[OURS], results[name]))
        print(f"{name:34}{ratios[0]:11.2f}{statistics.median(ratios):11.2f}{ratios[-1]:11.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, float(sys.argv[2]) if len(sys.argv) > 2 else 6)
