"""The combinations of a sweep on the workers of a cluster, as many at once as they have threads."""

import os
import pickle
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from modeler import ModelerError
from modeler.cluster.connect import LOST_SECONDS, Cluster
from modeler.cluster.package import make_installer, make_task
from modeler.inside import leave_out_grammar
from modeler.sweep.step import Result, Step

CORES = "LOKY_MAX_CPU_COUNT"  # environment variable: the cores that joblib uses


def execute_combinations(
    cluster: Cluster, first: Sequence[Step | Result], second: Sequence[tuple[int, Step]], data: Path | None
) -> Iterator[tuple[int, Result, Result]]:
    """Execute each step of `second` after the one of `first` whose number it names, which is done once.

    Yields the number of each of `second` as it ends, what came of its first step and what of itself. A Result in `first` was
    there before. What a lost worker had is done by another one. A ModelerError: the cluster is lost.
    """
    leave_out_grammar()
    client, plugin, cores = cluster.client, _make_plugin(cluster, data), os.environ.get(CORES)
    task, waiting, begun = make_task(plugin.name, "scratch"), {}, []
    try:
        client.register_plugin(plugin)
        begun = [client.submit(task, pickle.dumps(step), pure=False) for step in first]
        waiting = {
            client.submit(task, pickle.dumps(step), begun[number], pure=False): (position, begun[number])
            for position, (number, step) in enumerate(second)
        }
        while waiting:
            for future in _wait(cluster, list(waiting)):
                position, before = waiting.pop(future)
                yield position, _take(cluster, before), _take(cluster, future)
                del future
    finally:
        with suppress(Exception):
            client.cancel([*waiting, *begun], force=True)
            if cluster.is_local:
                _end_kernels()
            client.unregister_worker_plugin(plugin.name)
        if (
            cores is None
        ):  # workers of this machine are threads of this process, which is to prove the best on all cores
            os.environ.pop(CORES, None)


def _wait(cluster: Cluster, futures: list) -> list:
    from distributed import wait

    while True:
        try:
            return list(wait(futures, timeout=LOST_SECONDS, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            if not cluster.client.nthreads():
                raise ModelerError("the cluster has no workers any more; start some") from None


def _take(cluster: Cluster, future) -> Result:
    """What came of a step; an error is part of it, but not the loss of the cluster."""
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        return pickle.loads(future.result())
    except KilledWorker:
        lost = "ended every worker that tried it; out of memory is the usual reason"
        return Result({}, lost, 0.0)
    except (FutureCancelledError, CommClosedError):
        raise ModelerError("the connection to the cluster was lost") from None
    except Exception as error:  # of a worker, such as a full disk
        return Result({}, f"a worker failed: {type(error).__name__}: {error}", 0.0)


def _end_kernels() -> None:
    """End what the threads of this process still execute; nobody waits for it any more."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("ipykernel" in word for word in child.cmdline()):
                child.kill()


def _share_cores(cluster: Cluster) -> int:
    """The cores that one combination may use: on this machine an equal share, elsewhere one, as others may work there."""
    from dask.system import CPU_COUNT

    return max(1, CPU_COUNT // max(1, len(cluster.client.nthreads()))) if cluster.is_local else 1


def _make_plugin(cluster: Cluster, data: Path | None):
    """What makes a worker ready, also one that joins later: package and data file, which those of this machine have.

    The class is made here because cloudpickle ships such a one as code; see `modeler.cluster.package`.
    """
    from distributed import WorkerPlugin

    file = data.name if data else ""
    content = data.read_bytes() if data and not cluster.is_local else b""
    here = str(data.resolve()) if data and cluster.is_local else ""
    install, cores = make_installer(cluster.package), str(_share_cores(cluster))

    class Sweeping(WorkerPlugin):
        name = f"modeler-sweep-{uuid.uuid4().hex}"

        def setup(self, worker):
            install(worker)
            os.environ.setdefault(CORES, cores)  # of each kernel, whose search would take all
            self.folder = tempfile.TemporaryDirectory(dir=worker.local_directory, prefix="sweep-")
            self.scratch = Path(self.folder.name)
            self.data = None
            if file:
                (self.scratch / "data").mkdir()
                self.data = self.scratch / "data" / file
                if here:
                    self.data.symlink_to(here)
                else:
                    self.data.write_bytes(content)

        def teardown(self, worker):
            self.folder.cleanup()

        def work(self, step: bytes, before: bytes | None = None) -> bytes:
            from modeler.sweep.step import Result, execute_step

            step, given = pickle.loads(step), {}
            if isinstance(step, Result):
                return pickle.dumps(step)
            if before:
                before = pickle.loads(before)
                if before.error:
                    return pickle.dumps(Result({}, before.error, 0.0))
                given = before.files
            return pickle.dumps(execute_step(step, given, self.data, self.scratch))

    return Sweeping()
