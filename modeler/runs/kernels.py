"""The kernels that run notebooks: this Python's own, connected by socket files. They end with us."""

import os
import signal
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from modeler import QUIET
from modeler.linux import make_bond_to_parent

SOCKET_PATH = 96  # bytes; macOS allows 103 for a socket file and Linux 107, and its name is a letter longer than this


def localize_kernels(manager: type) -> type:
    """A kernel manager that connects by socket files in the folder for temporary files, and knows only our own Python.

    jupyter_client picks free TCP ports and releases them for the kernel; on a busy machine about one kernel in 300 found
    a port taken, and died. A kernel that a user installed as python3 may be another Python; nbval sets its own manager.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    class LocalKernelManager(manager):
        def __init__(self, **settings):
            file = Path(tempfile.gettempdir(), f"kernel-{uuid.uuid4().hex[:12]}.json")
            transport = "ipc" if len(os.fsencode(file)) < SOCKET_PATH else "tcp"
            own = {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[])}
            super().__init__(transport=transport, connection_file=str(file), **(own | settings))

        def start_kernel(self, **settings):
            return super().start_kernel(preexec_fn=prepare_child(), **settings)

    return LocalKernelManager


def prepare_child() -> Callable[[], None]:
    """What a child process calls first, so that it ends with us and SIGINT interrupts it.

    A kernel watches its parent itself, but only once it has started, and only if orphans go to process 1. A shell's
    background job ignores SIGINT, and its children inherit that.
    """
    bind_to_parent = make_bond_to_parent()

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        bind_to_parent()

    return prepare


def kernel_environment(hash_seed: int) -> dict[str, str]:
    """The environment of a kernel: ours with a hash seed, without bytecode and telemetry.

    OpenMP, as in histogram boosting, has one thread unless OMP_NUM_THREADS says otherwise: threads of several kernels that wait
    for each other on shared cores made a retrain of 30 s take 280 s.
    """
    return (
        {"OMP_NUM_THREADS": "1"}
        | os.environ
        | QUIET
        | {"PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"}
    )
