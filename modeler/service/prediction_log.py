"""The prediction log: a JSON line for each answered row, written beside the requests and never in their way."""

import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pydantic_core import to_json

SECONDS = 0.25  # between two writes, so that a request wakes no thread
LARGEST = 32 * 2**20  # bytes that wait to be written; what comes beyond is dropped
END_SECONDS = 2  # the last write may take when the process ends
HOUR = "%Y-%m-%dT%H"
FILE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)-[\w.-]+-\d+\.jsonl")
log = logging.getLogger("bentoml.prediction_log")


class PredictionLog:
    """Answers requests with a predictor and notes each row in FOLDER/NAME/YYYY-MM-DDTHH-<host>-<process>.jsonl, in UTC.

    Lines are made where the answer is made, which costs less than to hand the rows to another thread: that would keep them
    from being freed, and fight for the interpreter. A thread appends the lines to a file that only this process writes.

    Parameters
    ----------
    folder
        FOLDER/NAME; it is made where it is missing.
    share
        The share of requests that are noted, chosen by a hash of their id.
    days
        After which a file is removed.
    count
        Is told "written" or "dropped", and how many lines.
    """

    def __init__(self, folder: Path, share: float, days: int, count: Callable[[str, int], None]):
        self._folder, self._share, self._days, self._count = folder, share, days, count
        self._process = f"{re.sub('[^a-zA-Z0-9.-]', '_', socket.gethostname())}-{os.getpid()}"
        self._lock, self._waiting, self._size = threading.Lock(), [], 0
        self._hour, self._fault, self._ended = "", None, threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
        self._writer.start()

    def answer(self, predictor, request_id: str, body: bytes):
        """The predictor's answer to a body, noted."""
        answer = predictor.answer(body)
        if self._share == 1 or _hash(request_id) < self._share:
            self._add(_write_lines(predictor, request_id, answer))
        return answer

    def close(self) -> None:
        """Write what waits, unless that takes too long."""
        self._ended.set()
        self._writer.join(END_SECONDS)

    def _add(self, lines: bytes) -> None:
        with self._lock:
            if has_room := self._size + len(lines) <= LARGEST:
                self._waiting.append(lines)
                self._size += len(lines)
        if not has_room:
            self._count("dropped", lines.count(b"\n"))

    def _write_on(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(SECONDS)
            with self._lock:
                lines, self._waiting = b"".join(self._waiting), []
            written = 0
            try:
                path = self._find_file()
                for written in _append(path, lines) if lines else ():
                    self._fault = None
            except OSError as error:
                self._tell(f"{error.filename or self._folder}: {error.strerror}")
            kept = lines.count(b"\n", 0, written)
            self._count("written", kept)
            self._count("dropped", lines.count(b"\n") - kept)
            with self._lock:
                self._size -= len(lines)

    def _find_file(self) -> Path:
        """The file of this hour; at the first call of an hour, old ones are removed."""
        hour = f"{datetime.now(timezone.utc):{HOUR}}"
        self._folder.mkdir(0o750, parents=True, exist_ok=True)
        if hour != self._hour:
            oldest = f"{datetime.now(timezone.utc) - timedelta(self._days):{HOUR}}"
            for path in self._folder.iterdir():
                if (name := FILE.fullmatch(path.name)) and name[1] < oldest:
                    path.unlink(missing_ok=True)
            self._hour = hour
        return self._folder / f"{hour}-{self._process}.jsonl"

    def _tell(self, fault: str) -> None:
        if fault != self._fault:
            log.error("predictions are dropped from the log until it can be written: %s", fault)
        self._fault = fault


def _append(path: Path, lines: bytes) -> Iterator[int]:
    """Append whole lines, and yield how many bytes have been written. Of a line that cannot be finished, no part stays.

    A process of the same number may have been killed in the middle of a line, as in a container that was started again.
    """
    written = 0
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if (size := os.fstat(handle).st_size) and os.pread(handle, 1, size - 1) != b"\n":
            os.write(handle, b"\n")
        while written < len(lines):
            written += os.write(handle, lines[written:])
            yield written
    except OSError:
        broken = written - (lines.rfind(b"\n", 0, written) + 1)
        os.ftruncate(handle, os.fstat(handle).st_size - broken)
        raise
    finally:
        os.close(handle)


def _write_lines(predictor, request_id: str, answer) -> bytes:
    """A JSON line for each row of an answer: its used columns as they were read, and the answer without warnings."""
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    head = {"time": time, "request_id": request_id, "row": 0, "model": predictor.tag}
    lines = []
    for head["row"], (row, given) in enumerate(zip(answer.read, answer.answers)):
        features = {name: row[name] for name in predictor.used}
        told = {name: value for name, value in given.items() if name != "warnings"}
        lines.append(to_json({**head, "features": features, "answer": told}))
    return b"\n".join([*lines, b""])


def _hash(request_id: str) -> float:
    """A number from 0 to 1 that an id always has."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=6).digest()) / 2**48
