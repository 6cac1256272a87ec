"""Find a Dask cluster, of this machine or of others, whose workers have our versions of the packages."""

import asyncio
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from modeler import ModelerError, UsageError, list_names
from modeler.cluster.package import make_plugin, pack_package

CONNECT_SECONDS = 5
LOST_SECONDS = 20  # between two looks whether a cluster still has workers
MOST = 1024  # workers of this machine
MANY = 1024  # pieces of work, so that every core gets some
SAME = ["cloudpickle", "dask", "distributed", "numpy", "onnxruntime", "pyarrow", "pydantic", "pydantic-core"]
SEARCHING = ["cloudpickle", "dask", "distributed", "joblib", "numpy", "pandas", "scikit-learn", "scipy"]
SCHEDULERS = ["cloudpickle", "dask", "distributed"]
# Memory that a worker frees is kept for its next piece: by Dask's own setting, it gets all of it page by page anew each time.
KEPT = {"MALLOC_TRIM_THRESHOLD_": 1 << 28, "MALLOC_MMAP_THRESHOLD_": 1 << 28}  # bytes


@dataclass(frozen=True)
class Cluster:
    """A client of a cluster, and its address as told; `is_local` says whether its workers see the same files."""

    client: object
    told: str
    is_local: bool

    @property
    def package(self) -> bytes:
        """The package for its workers; those of this machine have it."""
        return b"" if self.is_local else pack_package()


@contextmanager
def open_cluster(told: str, pieces: int, same: Sequence[str] = SAME, *, threads: int = 0) -> Iterator[Cluster]:
    """A cluster of this machine for about so many pieces of work, "local" or "local:N", or the one at an address.

    Up to `threads` workers of this machine are threads of this process, more are processes of their own; those elsewhere must
    have the packages `same` in our versions.
    A ModelerError: nobody answers there, it has no workers, or other versions of packages.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Sending large graph")  # a piece of work holds its rows, on purpose
    kind, _, number = told.partition(":")
    if kind == "local":
        if number and (not number.isdigit() or not 1 <= int(number) <= MOST):
            raise UsageError(f"--cluster {told}: local:N takes a number of workers from 1 to {MOST}")
        workers = int(number) if number else max(1, min(CPU_COUNT, pieces))
        processes = workers > threads
        with tempfile.TemporaryDirectory(prefix="modeler-workers-") as scratch:
            settings = {
                "processes": processes,
                "dashboard_address": "127.0.0.1:0",
                "silence_logs": logging.CRITICAL,
                "local_directory": scratch,
                "memory_limit": "auto" if processes else None,  # Dask would hold all of this process against a thread
            }
            # Dask's profiler samples a worker's stack a hundred times a second, for a dashboard.
            lean = {"distributed.worker.profile.enabled": False}
            lean |= {f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in KEPT.items()}
            with (
                dask.config.set(lean),
                LocalCluster(
                    host="127.0.0.1" if processes else None, n_workers=workers, threads_per_worker=1, **settings
                ) as cluster,
            ):
                with closing(Client(cluster, direct_to_workers=True)) as client:
                    yield Cluster(client, told, is_local=True)
        return
    with closing(_connect(told)) as client:
        _check_versions(client.get_versions(packages=list(same)), same)
        yield Cluster(client, told, is_local=False)


@contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Let joblib's backend "dask" work on the cluster at an address, whose workers get this package; on none without an address.

    A ModelerError as of `open_cluster`.
    """
    if not address:
        yield
        return
    with open_cluster(address, MANY, SEARCHING) as cluster:
        plugin = make_plugin("modeler-search", cluster.package)
        cluster.client.register_plugin(plugin)
        try:
            yield
        finally:
            with suppress(Exception):
                cluster.client.unregister_worker_plugin(plugin.name)


def check_cluster(address: str) -> None:
    """Raise a ModelerError unless `join_cluster` could work there; nothing is shipped."""
    with open_cluster(address, 1, SEARCHING):
        pass


def _connect(address: str):
    from distributed import Client, rpc

    async def greet():
        async with rpc(address) as scheduler:
            return await scheduler.identity()

    try:
        # first, since Client waits without end for one that accepts and says nothing
        with ThreadPoolExecutor(1) as apart:  # as a notebook has an event loop already
            apart.submit(asyncio.run, asyncio.wait_for(greet(), CONNECT_SECONDS)).result()
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


def _check_versions(found: dict, same: Sequence[str] = SAME) -> None:
    """Raise a ModelerError that names every package whose version differs from the client's, and where."""

    def read(told: dict) -> dict[str, str]:
        python = str(told["host"]["python"]).split(".")[:2]
        return {"python": ".".join(python)} | {name: told["packages"].get(name) for name in same}

    here, differing = read(found["client"]), {}
    places = [(f"worker {address}", told, same) for address, told in sorted(found["workers"].items())]
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
