"""What SIGTERM, SIGINT and SIGHUP do in a worker of the service, so that no request is lost by them."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine


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
