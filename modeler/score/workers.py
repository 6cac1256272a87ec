"""Pieces of a scoring on the workers of a cluster: done in order, a bounded part at a time, lost ones again."""

import pickle
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from modeler import ModelerError
from modeler.cluster.connect import LOST_SECONDS, Cluster
from modeler.cluster.package import make_installer, make_task
from modeler.score.packing import pack

AHEAD = 3  # pieces of work in flight for each thread of a worker


def score_pieces(cluster: Cluster, model: str, files: dict[str, bytes], job, pieces: Iterable[tuple]) -> Iterator:
    """Have the workers do the job, piece by piece; what comes of them, in their order.

    A worker answers the golden rows first. What a lost worker had is done by another one.
    """
    plugin = _make_plugin(cluster.package, pickle.dumps((model, files, job)))
    task, waiting = make_task(plugin.name, "scorer"), deque()
    try:
        cluster.client.register_plugin(plugin)
        for piece in pieces:
            waiting.append(cluster.client.submit(task, pack(piece), pure=False))
            while len(waiting) >= AHEAD * max(1, sum(cluster.client.nthreads().values())):
                yield _take(cluster, waiting.popleft())
        while waiting:
            yield _take(cluster, waiting.popleft())
    finally:
        with suppress(Exception):
            cluster.client.cancel(list(waiting))
            cluster.client.unregister_worker_plugin(plugin.name)


def _take(cluster: Cluster, future):
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
                f"the connection to the cluster {cluster.told} was lost; run again once it stands"
            ) from None
        except TimeoutError:
            if not cluster.client.nthreads():
                raise ModelerError(
                    f"the cluster {cluster.told} has no workers any more; start some and run again"
                ) from None


def _make_plugin(package: bytes, content: bytes):
    """What makes a worker ready, also one that joins later.

    The class is made here because cloudpickle ships such a one as code: the worker need not have this package. Neither need
    the scheduler, which looks into what it passes on.
    """
    from distributed import WorkerPlugin

    install = make_installer(package)

    class Scoring(WorkerPlugin):
        name = f"modeler-score-{uuid.uuid4().hex}"

        def setup(self, worker):
            install(worker)
            from modeler.score.scorer import Scorer, open_predictor

            model, files, job = pickle.loads(content)
            with tempfile.TemporaryDirectory(dir=worker.local_directory) as folder:
                self.scorer = Scorer(open_predictor(model, files, Path(folder)), job)

        def work(self, piece: bytes) -> bytes:
            from modeler.score.packing import pack

            return pack(self.scorer.work(*pickle.loads(piece)))

    return Scoring()
