"""What a worker of the service does at SIGTERM, SIGINT and SIGHUP, so that no request is lost."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine


def handle_signals(grace: int, reload: Callable[[], Coroutine]) -> None:
    """Limit the grace and reload at SIGHUP, unless this is not the main thread of a server, as in a test."""
    if threading.current_thread() is threading.main_thread():
        _limit_grace(grace)
        _catch_hangup(reload)


def _limit_grace(seconds: int) -> None:
    """Exit this long after SIGTERM or SIGINT at the latest; BentoML would wait a day for a client that does not finish."""
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    for ending in (signal.SIGTERM, signal.SIGINT):
        former = signal.getsignal(ending)

        def end(number, frame, former=former):
            signal.alarm(seconds)
            if callable(former):
                former(number, frame)

        signal.signal(ending, end)


def _catch_hangup(reload: Callable[[], Coroutine]) -> None:
    """Have this worker run `reload` beside its requests at each SIGHUP, also at one it was sent while it started."""
    loop, tasks = asyncio.get_running_loop(), set()  # a loop itself does not keep its tasks

    def begin():
        tasks.add(task := loop.create_task(reload()))
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker begins with it blocked
