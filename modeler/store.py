"""BentoML's model store, written so that no reader ever sees half a model: staged, renamed in, `latest` moved last."""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import yaml

from modeler import ModelerError, did_you_mean
from modeler.contract import read_json, write_json
from modeler.history import (
    PROMOTED,
    REJECTED,
    ROLLED_BACK,
    announce_event,
    find_user,
    list_former_champions,
    list_withdrawn,
    make_event,
    read_events,
    settle_event,
)

GRAPH, CONTRACT = "model.onnx", "contract.json"
RECORDS = ["metrics.json", "golden.json"]  # without which a model can neither be compared with nor be proven
LOCK_SECONDS = 30  # that a name's lock is waited for


@dataclass(frozen=True)
class StoredModel:
    """A model of the store: its tag and the folder with its files."""

    tag: str
    path: Path

    @property
    def version(self) -> str:
        return self.tag.partition(":")[2]

    @property
    def mend(self) -> str:
        """What to do about it where it is damaged."""
        return f"remove it with `bentoml models delete {self.tag}` and retrain"

    def read(self, name: str) -> dict:
        """Read one of the model's JSON files."""
        try:
            return read_json(self.path / name)
        except (OSError, ValueError):
            raise ModelerError(f"{self.tag} has no readable {name}; {self.mend}") from None


def store_home() -> Path:
    """BentoML's home: BENTOML_HOME, or ~/bentoml."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME") or "~/bentoml")).expanduser()


def content_version(folder: Path) -> str:
    """The version of a model: the first 16 hex digits of the SHA-256 over the graph's bytes and then the contract's."""
    digest = hashlib.sha256()
    for name in (GRAPH, CONTRACT):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def find_champion(name: str) -> StoredModel | None:
    """The model that `latest` names, or None where nothing of that name is stored."""
    folder = store_home() / "models" / name
    try:
        version = (folder / "latest").read_text().strip()
    except FileNotFoundError:
        return None
    return StoredModel(f"{name}:{version}", folder / version) if (folder / version).is_dir() else None


def find_model(tag: str) -> StoredModel:
    """Find a model by NAME, NAME:latest or NAME:VERSION, or raise a ModelerError that says how to make one."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml

    try:
        model = bentoml.models.get(tag)
    except (bentoml.exceptions.BentoMLException, ValueError, OSError):
        name = tag.partition(":")[0]
        options = "" if name == "breast_cancer" else f" --data FILE --target COLUMN --name {name}"
        raise ModelerError(
            f"there is no model {tag} in the store {store_home()}; `bentoml models list` shows what there is, "
            f"and `python pipeline.py{options}` makes one"
        ) from None
    return StoredModel(str(model.tag), Path(model.path))


def load_model(tag: str) -> StoredModel:
    """Find a model, and raise a ModelerError also where graph or contract are not what its version was made from."""
    model = find_model(tag)
    check_content(model)
    return model


def check_content(model: StoredModel) -> None:
    """Raise a ModelerError unless graph and contract are what the model's version was made from."""
    try:
        version = content_version(model.path)
    except OSError as error:
        lost = f"lacks {Path(error.filename).name} and is damaged: {error.strerror}"
        raise ModelerError(f"{model.tag} {lost}; {model.mend}") from None
    if version != model.version:
        raise ModelerError(f"{model.tag} was changed after it was stored: its content is {version}; {model.mend}")


def list_versions(name: str) -> list[str]:
    """The versions that are stored of a name."""
    folder = store_home() / "models" / name
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def find_damage(model: StoredModel) -> str | None:
    """What is wrong with a stored model, as far as its hash and a look at its files tell; None for a whole one."""
    try:
        check_content(model)
        for name in RECORDS:
            model.read(name)
        if yaml.safe_load((model.path / "model.yaml").read_text("utf-8"))["version"] != model.version:
            return f"{model.tag} has the model.yaml of another version"
    except ModelerError as error:
        return str(error).partition(";")[0]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return f"{model.tag} has no readable model.yaml"
    return None


def check_writable() -> None:
    """Raise a ModelerError unless a model could be staged in the store now."""
    with _explain_errors(), _stage() as staging:
        (staging / "probe").write_bytes(b"\0" * 4096)


def publish_model(
    run: Path,
    tag: str,
    labels: dict[str, str],
    metadata: dict,
    *,
    verdict: dict | None = None,
    readmit: bool = False,
    judged_against: str | None = None,
) -> dict | None:
    """Put a run's files into the store under their tag, make it the champion, and note that in the history.

    The files are staged on the store's own filesystem; under the name's lock the finished folder is renamed in, and then
    the file `latest` is replaced. Readers need no lock: each step is one atomic system call. A version that is there
    stays as it is, unless it is damaged: then each of its files is replaced.

    Parameters
    ----------
    verdict
        What verdict.json holds in the store.
    readmit
        Whether the version may have been rolled back from.
    judged_against
        The champion's version that the candidate was compared with, "" where there was none. Default: with none, and
        whatever the champion is, it is followed.

    Returns
    -------
    dict or None
        The promotion as the history has it; None where the version is the champion already.

    Raises
    ------
    ModelerError
        When the store cannot be written, the name stays locked, the version is withdrawn, or another champion than the
        one judged against is there by now.
    """
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml
    from bentoml._internal.models.model import ModelStore  # create() takes a store, but the class has no public name

    name, _, version = tag.partition(":")
    with _explain_errors(), _stage() as staging:
        with bentoml.models.create(tag, labels=labels, metadata=metadata, _model_store=ModelStore(staging)) as model:
            for path in run.iterdir():
                if path.is_file():
                    shutil.copy(path, model.path)
            if verdict is not None:
                write_json(Path(model.path) / "verdict.json", verdict)
        staged, folder = staging / name / version, store_home() / "models" / name
        check_content(StoredModel(tag, staged))
        _finish_files(staged)
        with lock_name(name):
            settle_event(folder.parent, name, _came_about(name))
            champion, reasons = find_champion(name), []
            damage = find_damage(StoredModel(tag, folder / version)) if (folder / version).exists() else None
            before = champion and champion.version
            if before == version and not damage:
                return None
            if judged_against is not None and judged_against != (before or ""):
                raise ModelerError(
                    f"the champion of {name} is {before or 'gone'} by now, and the candidate was compared with "
                    f"{judged_against or 'none'}; retrain to compare it again. No model was changed"
                )
            if not readmit and (withdrawal := find_withdrawal(tag)):
                raise ModelerError(f"{withdrawal}. No model was changed")
            if damage:
                reasons.append(f"{damage}; it was stored again")
            elif champion and (lost := find_damage(champion)):
                reasons.append(f"the champion before could not be used: {lost}")
            run_name, metrics = labels.get("run"), metadata.get("metrics")
            event = make_event(PROMOTED, version, before, version, run_name, metrics, reasons)
            with _note(name, event, staging):
                if damage:
                    for path in staged.iterdir():
                        os.replace(path, folder / version / path.name)
                else:
                    folder.mkdir(exist_ok=True)
                    if not (folder / version).exists():
                        os.rename(staged, folder / version)
                _move_latest(folder, version, staging)
            return event


def roll_back(name: str, to: str | None, prove: Callable[[StoredModel], None]) -> dict:
    """Make an older version the champion again and withdraw the present one.

    Parameters
    ----------
    to
        The version. Default: the champion before the present one by the history, without withdrawn versions.
    prove
        Raises a ModelerError unless the older version answers as it must; called before `latest` is moved.

    Returns
    -------
    dict
        The rollback as the history has it.

    Raises
    ------
    ModelerError
        When there is no such version, it is the champion already or damaged, or the store cannot be written.
    """
    folder = store_home() / "models" / name
    versions = list_versions(name)
    if not versions:
        raise ModelerError(unknown_name(name))
    to = to and to.removeprefix(f"{name}:")
    if to and to not in versions:
        near = did_you_mean(to, versions) or f"; there is {' and '.join(versions)}"
        raise ModelerError(f"{name} has no version {to} in the store{near}")
    with _explain_errors(), _stage() as staging, lock_name(name):
        settle_event(folder.parent, name, _came_about(name))
        events, champion = read_history(name), find_champion(name)
        before = champion and champion.version
        if to == before:
            raise ModelerError(f"{name}:{to} is the champion already; nothing was changed")
        former = [version for version in list_former_champions(events, before) if version in versions]
        if not (version := to or (former[0] if former else None)):
            others = [other for other in versions if other != before]
            hint = f"--to names one of the others in the store: {', '.join(others)}" if others else "retrain instead"
            raise ModelerError(f"{name} has no older champion to roll back to that is not withdrawn; {hint}")
        target = StoredModel(f"{name}:{version}", folder / version)
        try:
            check_content(target)
            prove(target)
        except ModelerError as error:
            raise ModelerError(f"{error}. Nothing was changed; --to names another version") from None
        made = [
            event for event in events if event["event"] != REJECTED and event["version"] == version and event["run"]
        ]
        metrics = None if find_damage(target) else target.read("metrics.json")
        event = make_event(ROLLED_BACK, version, before, version, made[-1]["run"] if made else None, metrics, [])
        with _note(name, event, staging):
            _move_latest(folder, version, staging)
        return event


def note_rejection(tag: str, run: Path, metrics: dict, reasons: list[str]) -> dict:
    """Note in the history that a run's candidate was rejected; the champion stays."""
    name, _, version = tag.partition(":")
    with _explain_errors(), _stage() as staging, lock_name(name):
        settle_event(store_home() / "models", name, _came_about(name))
        champion = find_champion(name)
        before = champion and champion.version
        event = make_event(REJECTED, version, before, before, run.name, metrics, reasons)
        with _note(name, event, staging):
            pass
        return event


def read_history(name: str) -> list[dict]:
    """What was promoted, rejected and rolled back of a name, oldest first; empty where nothing was."""
    return read_events(store_home() / "models", name, _came_about(name))


def find_withdrawal(tag: str) -> str | None:
    """A sentence that says when and by whom a version was rolled back from; None where it is not withdrawn."""
    name, _, version = tag.partition(":")
    champion = find_champion(name)
    if champion and champion.version == version:
        return None
    event = list_withdrawn(read_history(name)).get(version)
    return event and (
        f"{tag} was rolled back from on {event['when'][:10]} by {event['user']} on {event['host']}; "
        "--readmit promotes it all the same"
    )


def unknown_name(name: str) -> str:
    """The sentence about a name of which nothing is stored."""
    folder = store_home() / "models"
    known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return f"there is no model {name} in the store {store_home()}{did_you_mean(name, known)}; `bentoml models list` shows what there is"


def _came_about(name: str) -> Callable[[dict], bool]:
    """Whether a pending event came about: `latest` names its version, and that is a whole one."""

    def came_about(event: dict) -> bool:
        champion = find_champion(name)
        named = champion is not None and champion.version == event["after"]
        return event["event"] == REJECTED or (named and find_damage(champion) is None)

    return came_about


@contextmanager
def _note(name: str, event: dict, staging: Path):
    """Announce an event, let it come about, and append it to the history; nothing of it stays where it did not."""
    models = store_home() / "models"
    announce_event(models, name, event, staging / "pending")
    try:
        yield
    finally:
        try:
            settle_event(models, name, _came_about(name))
        except OSError:
            pass  # a full disk, say: it is written whole in the pending file, and the next writer settles it


def _move_latest(folder: Path, version: str, staging: Path) -> None:
    (staging / "latest").write_text(version)
    os.replace(staging / "latest", folder / "latest")


@contextmanager
def _stage():
    """A fresh folder on the store's filesystem, removed afterwards; folders of dead processes are removed before.

    A living process holds a lock on its folder, which the kernel takes away with the process, however it ends.
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

    Raises
    ------
    ModelerError
        When another process holds it for longer than LOCK_SECONDS; the message names that process.
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
        file.write(json.dumps(holder | {"command": command, "since": since}))
        file.flush()
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
def _explain_errors():
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


def _finish_files(folder: Path) -> None:
    """Let every user read the files, as a container under another uid must, and let them outlast a power cut.

    BentoML makes its folders private.
    """
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
