"""Work on a Dask cluster, here or elsewhere: shipped with all that it needs, done in order, a bounded part at a time."""

import asyncio
import hashlib
import logging
import pickle
import sys
import tempfile
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from modeler import ModelerError, UsageError, list_names
from modeler.score.packing import pack, pack_package

CONNECT_SECONDS = 5
LOST_SECONDS = 20  # between two looks whether a cluster still has workers
AHEAD = 3  # pieces of work in flight for each thread of a worker
SAME = ["cloudpickle", "dask", "distributed", "numpy", "onnxruntime", "pyarrow", "pydantic", "pydantic-core"]
SCHEDULERS = ["cloudpickle", "dask", "distributed"]


@contextmanager
def open_cluster(told: str, pieces: int) -> Iterator["Cluster"]:
    """A cluster of this machine for about so many pieces of work, "local" or "local:N", or the one at an address.

    A ModelerError: nobody answers there, it has no workers, or other versions of packages.
    """
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Sending large graph")  # a piece of work holds its rows, on purpose
    kind, _, number = told.partition(":")
    if kind == "local":
        if number and (not number.isdigit() or not 1 <= int(number) <= 1024):
            raise UsageError(f"--cluster {told}: local:N takes a number of workers from 1 to 1024")
        workers = int(number) if number else max(1, min(CPU_COUNT, pieces))
        with tempfile.TemporaryDirectory(prefix="modeler-workers-") as scratch:
            settings = {
                "dashboard_address": "127.0.0.1:0",
                "silence_logs": logging.CRITICAL,
                "local_directory": scratch,
            }
            with LocalCluster("127.0.0.1", n_workers=workers, threads_per_worker=1, **settings) as cluster:
                with closing(Client(cluster)) as client:
                    yield Cluster(client, told, is_local=True)
        return
    with closing(_connect(told)) as client:
        _check_versions(client.get_versions(packages=SAME))
        yield Cluster(client, told, is_local=False)


def _connect(address: str):
    from distributed import Client, rpc

    async def greet():
        async with rpc(address) as scheduler:
            return await scheduler.identity()

    try:
        # first, since Client waits without end for one that accepts and says nothing
        asyncio.run(asyncio.wait_for(greet(), CONNECT_SECONDS))
        client = Client(address, timeout=CONNECT_SECONDS, name="modeler")
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        reason = str(error).partition("\n")[0][:200] or "no answer"
        raise ModelerError(
            f"--cluster {address}: no Dask scheduler answers there ({reason}); start one with `dask scheduler`, or see the "
            "address"
        ) from None
    if not client.nthreads():
        client.close()
        raise ModelerError(
            f"--cluster {address}: the scheduler has no workers; start some with `dask worker {address}`"
        )
    return client


def _check_versions(found: dict) -> None:
    """Raise a ModelerError that names every package whose version differs from the client's, and where."""

    def read(told: dict) -> dict[str, str]:
        python = str(told["host"]["python"]).split(".")[:2]
        return {"python": ".".join(python)} | {name: told["packages"].get(name) for name in SAME}

    here, differing = read(found["client"]), {}
    places = [(f"worker {address}", told, SAME) for address, told in sorted(found["workers"].items())]
    for where, told, names in [("the scheduler", found["scheduler"], SCHEDULERS), *places]:
        there = read(told)
        for name in ["python", *names]:
            if there[name] != here[name]:
                differing.setdefault((name, there[name]), []).append(where)
    if differing:
        lines = [
            f"{name} {version or 'is missing'}, here {here[name]}: {list_names(where, 3)}"
            for (name, version), where in sorted(differing.items(), key=str)
        ]
        raise ModelerError(
            "\n  ".join(["the cluster has other versions than this machine; install the same there:", *lines])
        )


class Cluster:
    """A client of a cluster; `is_local` says whether its workers see the same files."""

    def __init__(self, client, told: str, is_local: bool):
        self._client, self._told, self.is_local = client, told, is_local

    def run(self, model: str, files: dict[str, bytes], job, pieces: Iterable[tuple]) -> Iterator:
        """Have the workers do the job, piece by piece; what comes of them, in their order.

        A worker answers the golden rows first. What a lost worker had is done by another one.
        """
        package = b"" if self.is_local else pack_package()
        plugin = _make_plugin(package, pickle.dumps((model, files, job)))
        task, waiting = _make_task(plugin.name), deque()
        try:
            self._client.register_plugin(plugin)
            for piece in pieces:
                waiting.append(self._client.submit(task, pack(piece), pure=False))
                while len(waiting) >= AHEAD * max(1, sum(self._client.nthreads().values())):
                    yield self._take(waiting.popleft())
            while waiting:
                yield self._take(waiting.popleft())
        finally:
            with suppress(Exception):
                self._client.cancel(list(waiting))
                self._client.unregister_worker_plugin(plugin.name)

    def _take(self, future):
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        while True:
            try:
                return pickle.loads(future.result(timeout=LOST_SECONDS))
            except KilledWorker:
                raise ModelerError(
                    "one piece of work ended every worker that tried it; give workers more memory, or look at their logs"
                ) from None
            except (FutureCancelledError, CommClosedError):
                raise ModelerError(
                    f"the connection to the cluster {self._told} was lost; run again once it stands"
                ) from None
            except TimeoutError:
                if not self._client.nthreads():
                    raise ModelerError(
                        f"the cluster {self._told} has no workers any more; start some and run again"
                    ) from None


def _make_plugin(package: bytes, content: bytes):
    """What makes a worker ready, also one that joins later.

    The class is made here because cloudpickle ships such a one as code: the worker need not have this package. Neither need
    the scheduler, which looks into what it passes on.
    """
    from distributed import WorkerPlugin

    version = hashlib.sha256(package).hexdigest()[:16]

    class Scoring(WorkerPlugin):
        name = f"modeler-score-{uuid.uuid4().hex}"

        def setup(self, worker):
            if package and getattr(sys.modules.get("modeler"), "shipped", None) != version:
                for name in [name for name in sys.modules if name.partition(".")[0] == "modeler"]:
                    del sys.modules[name]
                archive = Path(worker.local_directory) / f"modeler-{version}.zip"
                archive.write_bytes(package)
                sys.path.insert(0, str(archive))
                import modeler

                modeler.shipped = version
            from modeler.score.scorer import Scorer, open_predictor

            model, files, job = pickle.loads(content)
            with tempfile.TemporaryDirectory(dir=worker.local_directory) as folder:
                self.scorer = Scorer(open_predictor(model, files, Path(folder)), job)

        def work(self, piece: bytes) -> bytes:
            from modeler.score.packing import pack

            return pack(self.scorer.work(*pickle.loads(piece)))

    return Scoring()


def _make_task(name: str):
    def work(piece: bytes) -> bytes:
        from distributed import get_worker

        worker = get_worker()
        plugin = worker.plugins[name]
        if not hasattr(plugin, "scorer"):  # it failed when the worker joined, and is to say why
            plugin.setup(worker)
        return plugin.work(piece)

    return work
