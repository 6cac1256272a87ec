"""What a worker of the service does at SIGTERM, SIGINT and SIGHUP, so that no request is lost, and when its parent ends."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine

from modeler.linux import watch_parent

LAST_SECONDS = 1  # after SIGTERM, in which clients are told to close their connections


def handle_signals(grace: int, say_farewell: Callable[[], None], reload: Callable[[], Coroutine]) -> None:
    """Limit the grace and reload at SIGHUP, unless this is not the main thread of a server, as in a test.

    A worker that outlived its parent would keep the port, and answer with its model for ever. Linux sends it SIGTERM then, as
    `inside.bind_workers` asked for; elsewhere it looks itself.
    """
    if threading.current_thread() is threading.main_thread():
        _limit_grace(grace, say_farewell)
        watch_parent(signal.SIGTERM)
        _catch_hangup(reload)


def _limit_grace(seconds: int, say_farewell: Callable[[], None]) -> None:
    """Exit this long after SIGTERM or SIGINT at the latest; BentoML would wait a day for a client that does not finish.

    At SIGTERM, `say_farewell` has each answer tell its client that the connection ends. Only then the server stops: it
    closes all connections at once, also those on which a next request is already under way, and that would be lost.
    SIGINT, as of Ctrl-C, stops it at once.
    """
    loop, begun = asyncio.get_running_loop(), []
    stop = {ending: signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGINT)}

    def end(number, frame):
        if not begun:
            signal.alarm(seconds)
        if number == signal.SIGINT:
            stop[number](number, frame)
        elif not begun:  # systemd tells workers too, and BentoML tells them once more
            say_farewell()
            loop.call_soon_threadsafe(loop.call_later, min(LAST_SECONDS, seconds / 2), stop[number], number, None)
        begun.append(number)

    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    for ending in stop:
        signal.signal(ending, end)


def _catch_hangup(reload: Callable[[], Coroutine]) -> None:
    """Have this worker run `reload` beside its requests at each SIGHUP, also at one it was sent while it started."""
    loop, tasks = asyncio.get_running_loop(), set()  # a loop itself does not keep its tasks

    def begin():
        tasks.add(task := loop.create_task(reload()))
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker begins with it blocked
