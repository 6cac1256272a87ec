"""What only Linux has, all of it, and what stands in for it elsewhere. Every other module needs no more than a Unix."""

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IS_LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1  # prctl(2)
CONTROL_GROUP = Path("/sys/fs/cgroup")
WATCH_SECONDS = 1


def make_bond_to_parent(sent: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """What a child of this process calls first, so that the system sends it a signal at once when this one ends, by whatever cause.

    Elsewhere it does nothing: kernels watch their parent themselves once they have started, and our own programs do by
    `watch_parent`.
    """
    if not IS_LINUX:
        return lambda: None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind():
        prctl(PR_SET_PDEATHSIG, sent)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return bind


def watch_parent(sent: signal.Signals = signal.SIGKILL) -> None:
    """What this process calls where there is no such bond, to be sent a signal a second after its parent ended."""
    if IS_LINUX:
        return
    parent = os.getppid()

    def watch():
        while parent != 1 and os.getppid() == parent:  # orphans are given to process 1
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), sent)

    threading.Thread(target=watch, daemon=True).start()


def read_spare_memory() -> float:
    """The bytes that the limit of this process's control group leaves; infinity where there is none, as elsewhere."""
    with suppress(OSError, ValueError):
        limit, used = ((CONTROL_GROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    return math.inf


@contextmanager
def limit_memory(more: float) -> Iterator[None]:
    """Let this process have so many more bytes than now; what asks for more gets a MemoryError. Elsewhere there is no limit."""
    if not IS_LINUX:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ends = [_read_status("VmData") + int(more), *(end for end in (soft, hard) if end != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(ends), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def read_peak_memory() -> int:
    """The most memory in bytes that this process ever had at once. What other systems tell may include its parent's."""
    with suppress(OSError):
        return _read_status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _read_status(name: str) -> int:
    """A figure in bytes of what Linux tells of this process."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told[name].split()[0]) * 1024
