"""The kernels that notebooks run in: this Python's own, reached by socket files, gone when we are."""

import ctypes
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from modeler import QUIET

PR_SET_PDEATHSIG = 1  # of Linux, prctl(2)
SOCKET_PATH = 96  # bytes; the system takes 104 to 108 for the name of a socket file, which has a few more letters


def localize_kernels(manager: type) -> type:
    """A kernel manager whose kernels are reached by socket files in the folder for temporary files.

    jupyter_client picks free TCP ports and gives them up until the kernel takes them; about one kernel in 300 on a busy
    machine found one of its ports taken, and died.
    """

    class LocalKernelManager(manager):
        def __init__(self, **settings):
            file = Path(tempfile.gettempdir(), f"kernel-{uuid.uuid4().hex[:12]}.json")
            transport = "ipc" if len(os.fsencode(file)) < SOCKET_PATH else "tcp"
            super().__init__(transport=transport, connection_file=str(file), **settings)

        def start_kernel(self, **settings):
            return super().start_kernel(preexec_fn=prepare_child(), **settings)

    return LocalKernelManager


def prepare_child() -> Callable[[], None]:
    """What a child process calls first, so that it ends when we do, and can be interrupted.

    A kernel looks for its parent, but only once it has started, and it misses the parent's end on systems that give
    orphans to another process than 1. Linux can send a signal instead. A shell's background job ignores SIGINT, and its
    children inherit that.
    """
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if sys.platform.startswith("linux"):
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # which has ended in between
            os._exit(1)

    return prepare


def kernel_environment(hash_seed: int) -> dict[str, str]:
    """The environment of a kernel: ours, with a hash seed, without bytecode and telemetry."""
    return os.environ | QUIET | {"PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"}
