"""What SIGTERM, SIGINT and SIGHUP do in the service's processes, so that no request is lost by them."""

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

import psutil

LAST_ACCEPT_SECONDS = 0.5  # after SIGTERM; uvicorn looks every 0.1 s whether it was told to stop


def limit_grace(seconds: int) -> None:
    """Exit this long after SIGTERM or SIGINT at the latest; BentoML would wait a day for a client that does not finish."""
    if threading.current_thread() is not threading.main_thread():
        return  # not the server's own process, as in a test
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    for ending in (signal.SIGTERM, signal.SIGINT):
        former = signal.getsignal(ending)

        def end(number, frame, former=former):
            signal.alarm(seconds)
            if callable(former):
                former(number, frame)

        signal.signal(ending, end)


def catch_hangup(reload: Callable[[], Coroutine]) -> None:
    """Have this worker run `reload` beside its requests at each SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return  # as above
    loop, tasks = asyncio.get_running_loop(), set()  # a loop itself does not keep its tasks

    def begin():
        tasks.add(task := loop.create_task(reload()))
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)


def refuse_late_connections() -> None:
    """Have BentoML's parent process refuse connections as soon as it was told to stop and the workers take no more.

    By itself, it holds the listening socket until the last worker has ended: whoever connects in between waits in vain.
    """
    from circus.sighandler import SysHandler

    former = SysHandler.quit

    def quit_and_refuse(handler):
        former(handler)
        controller = handler.controller

        def refuse():
            for listening in controller.arbiter.sockets.values():
                with suppress(OSError):  # it was told to stop twice
                    listening.shutdown(socket.SHUT_RDWR)

        controller.loop.add_callback_from_signal(controller.loop.call_later, LAST_ACCEPT_SECONDS, refuse)

    SysHandler.quit = quit_and_refuse


def forward_hangup() -> None:
    """Have BentoML's parent process pass SIGHUP on to its workers.

    By itself, it would start other workers and stop these, which costs requests: those that arrive on an open connection,
    or on one just accepted, in the moment the connection is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    from circus.sighandler import SysHandler

    SysHandler.SIGNALS = [caught for caught in SysHandler.SIGNALS if caught != signal.SIGHUP]

    def forward(number, frame):
        for worker in psutil.Process().children():
            if _catches_hangup(worker.pid):
                worker.send_signal(signal.SIGHUP)

    signal.signal(signal.SIGHUP, forward)


def _catches_hangup(pid: int) -> bool:
    """Whether a worker has come far enough; SIGHUP would end it before, and it will load the model after that anyway."""
    try:
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return False
    return bool(int(caught[1], 16) >> (signal.SIGHUP - 1) & 1)
