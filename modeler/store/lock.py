"""Changing the store: one process at a time, from a staging folder, with errors that say what to do."""

import fcntl
import getpass
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from modeler import ModelerError
from modeler.model.stored import store_home

LOCK_SECONDS = 30  # that a name's lock is waited for


def check_writable() -> None:
    """Raise a ModelerError unless a model could be staged in the store now."""
    with explain_errors(), stage_files() as staging:
        (staging / "probe").write_bytes(b"\0" * 4096)


@contextmanager
def stage_files():
    """A fresh folder on the store's filesystem, removed afterwards; folders of dead processes are removed before.

    A living process holds a lock on its folder, and the system releases it when the process ends, however it ends.
    """
    root = store_home() / "staging"
    _clear_staging(root)
    while True:
        staging = root / uuid.uuid4().hex
        staging.mkdir(parents=True)
        try:
            held = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process took it for a dead one's just now
        fcntl.flock(held, fcntl.LOCK_EX)
        if staging.exists():
            break
        os.close(held)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)


def _clear_staging(root: Path) -> None:
    for folder in root.iterdir() if root.is_dir() else []:
        try:
            held = os.open(folder, os.O_RDONLY)
        except OSError:
            continue  # gone by now, or another user's
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # a living process holds it
        finally:
            os.close(held)


@contextmanager
def lock_name(name: str):
    """Hold the lock of a name: one process at a time changes what is stored of it.

    A ModelerError names the process that holds it for longer than LOCK_SECONDS.
    """
    models = store_home() / "models"
    models.mkdir(parents=True, exist_ok=True)
    with open(models / f".{name}.lock", "a+") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ModelerError(
                        f"the store's {name} is being changed by {_describe_holder(file)} for more than {LOCK_SECONDS} s; "
                        "run again when that is done, or end it. No model was changed"
                    ) from None
                time.sleep(0.02)
        file.truncate(0)
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder = {"user": find_user(), "host": socket.gethostname(), "pid": os.getpid()}
        with suppress(OSError):  # on a full disk, which `prune` makes room on, nobody is told who holds the lock
            os.write(file.fileno(), json.dumps(holder | {"command": command, "since": since}).encode())
        try:
            yield
        finally:
            file.truncate(0)


def _describe_holder(file) -> str:
    file.seek(0)
    try:
        return "{user} on {host}, process {pid} (`{command}`), since {since},".format(**json.loads(file.read()))
    except (ValueError, KeyError):
        return "another process"


@contextmanager
def explain_errors():
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, shutil.Error):  # copytree's list of (source, target, message)
            reason = re.sub(r"^\[Errno \d+\] |: '.*", "", error.args[0][0][2])
        raise ModelerError(
            f"the model store {store_home()} cannot be written: {reason}; make room or permit writing there, "
            "or set BENTOML_HOME to another folder. No model was changed"
        ) from None


def find_user() -> str:
    """The user's name or, as in some containers, number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
