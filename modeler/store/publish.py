"""Making a version the champion so that no reader ever sees half a model: staged, renamed in, `latest` moved last."""

import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from modeler import ModelerError, did_you_mean
from modeler.inside import create_model
from modeler.model.contract import write_json
from modeler.model.stored import (
    StoredModel,
    check_content,
    find_champion,
    find_damage,
    list_versions,
    store_home,
    unknown_name,
)
from modeler.store.history import (
    PROMOTED,
    REJECTED,
    ROLLED_BACK,
    announce_event,
    list_former_champions,
    list_withdrawn,
    make_event,
    read_events,
    settle_event,
)
from modeler.store.lock import explain_errors, lock_name, stage_files

Finish = Callable[[Path, dict], None]  # of a staged folder and its promotion, as the history will have it
Judge = Callable[[StoredModel | None], dict]  # of the champion there is now: what verdict.json holds


def publish_model(
    run: Path,
    tag: str,
    labels: dict[str, str],
    metadata: dict,
    *,
    verdict: dict | None = None,
    readmit: bool = False,
    judged_against: str = "",
    judge: Judge | None = None,
    finish: Finish | None = None,
) -> dict | None:
    """Put a run's files into the store under their tag, make it the champion, and note that in the history.

    The files are staged on the store's own filesystem; under the name's lock the finished folder is renamed in, and then
    the file `latest` is replaced. Readers need no lock: each step is one atomic system call. A version that is there
    stays as it is, unless it is damaged: then each of its files is replaced. A ModelerError says where the store cannot be
    written, the name stays locked, or the version is withdrawn. Returned is the promotion or, if it was judged again, the
    rejection, as the history has it; None for the champion itself.

    Parameters
    ----------
    verdict
        What verdict.json holds in the store.
    judged_against, judge
        The champion's version that the candidate was compared with, "" for none, and what judges it again, under the lock,
        if another is champion by now.
    finish
        Writes into the staged folder what only the promotion itself tells.
    """
    name, _, version = tag.partition(":")
    with explain_errors(), stage_files() as staging:
        staged = _stage_model(run, tag, labels, metadata, verdict, staging)
        with lock_name(name):
            settle_event(store_home() / "models", name, _came_about(name))
            champion, told = find_champion(name), [labels.get("run"), metadata.get("metrics")]
            before = champion and champion.version
            if judge and judged_against != (before or ""):
                verdict = judge(champion)
                write_json(staged / "verdict.json", verdict)
                if verdict["verdict"] == "rejected":
                    return _reject(tag, *told, verdict["reasons"], staging)
            damage = _find_damage_at(name, version)
            if before == version and not damage:
                return None
            if not readmit and (withdrawal := find_withdrawal(tag)):
                raise ModelerError(f"{withdrawal}. No model was changed")
            event = make_event(PROMOTED, version, before, version, *told, _list_damages(damage, champion))
            return _promote(event, name, staged, staging, bool(damage), finish)


def roll_back(name: str, to: str | None, prove: Callable[[StoredModel], None]) -> dict:
    """Make an older version the champion again and withdraw the present one; the rollback as the history has it.

    A ModelerError says if there is no such version, it is the champion already or damaged, or the store cannot be written.

    Parameters
    ----------
    to
        The version. Default: the champion before the present one by the history, without withdrawn versions.
    prove
        Raises a ModelerError unless the older version answers as it must; called before `latest` is moved.
    """
    versions, to = list_versions(name), to and to.removeprefix(f"{name}:")
    if not versions:
        raise ModelerError(unknown_name(name))
    if to and to not in versions:
        near = did_you_mean(to, versions) or f"; there is {' and '.join(versions)}"
        raise ModelerError(f"{name} has no version {to} in the store{near}")
    with explain_errors(), stage_files() as staging, lock_name(name):
        settle_event(store_home() / "models", name, _came_about(name))
        events, champion = read_history(name), find_champion(name)
        before = champion and champion.version
        version = _choose_version(name, to, before, versions, events)
        target = StoredModel(f"{name}:{version}", store_home() / "models" / name / version)
        try:
            if damage := find_damage(target):  # or the history would take the rollback for one that did not happen
                raise ModelerError(f"{damage}; {target.mend}")
            prove(target)
        except ModelerError as error:
            raise ModelerError(f"{error}. Nothing was changed; --to names another version") from None
        runs = [event["run"] for event in events if event["event"] != REJECTED and event["version"] == version]
        run = next(filter(None, runs[::-1]), None)
        metrics = {name: value for name, value in target.read("metrics.json").items() if name != "cv"}
        event = make_event(ROLLED_BACK, version, before, version, run, metrics, [])
        with _note(name, event, staging):
            _move_latest(name, version, staging)
        return event


def name_run(run: Path) -> str:
    """The name of a run's folder below `runs/`; a sweep's runs stand in the folder of the sweep."""
    return f"{run.parent.name}/{run.name}" if (run.parent / "sweep.json").exists() else run.name


def note_rejection(tag: str, run: Path, metrics: dict, reasons: list[str]) -> dict:
    """Note in the history that a run's candidate was rejected; the champion stays."""
    name = tag.partition(":")[0]
    with explain_errors(), stage_files() as staging, lock_name(name):
        settle_event(store_home() / "models", name, _came_about(name))
        return _reject(tag, name_run(run), metrics, reasons, staging)


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


def _stage_model(run: Path, tag: str, labels: dict, metadata: dict, verdict: dict | None, staging: Path) -> Path:
    """The folder of a finished model, outside the store's models. Every user may read it, as a container's must.

    BentoML makes its folders private. The files would outlast a power cut. Links, as that to the data, stay behind.
    """
    with create_model(tag, labels, metadata, staging) as folder:
        for path in run.iterdir():
            if path.is_file() and not path.is_symlink():
                shutil.copy(path, folder)
        if verdict is not None:
            write_json(folder / "verdict.json", verdict)
    staged = staging / tag.replace(":", "/")
    check_content(StoredModel(tag, staged))
    _settle_files(staged)
    return staged


def _settle_files(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _find_damage_at(name: str, version: str) -> str | None:
    """What is wrong with a version that is stored; None for a whole one, or none."""
    folder = store_home() / "models" / name / version
    return find_damage(StoredModel(f"{name}:{version}", folder)) if folder.exists() else None


def _list_damages(damage: str | None, champion: StoredModel | None) -> list[str]:
    """What a promotion mends or leaves behind, for the history."""
    if damage:
        return [f"{damage}; it was stored again"]
    if champion and (lost := find_damage(champion)):
        return [f"the champion before could not be used: {lost}"]
    return []


def _choose_version(name: str, to: str | None, before: str | None, versions: list[str], events: list[dict]) -> str:
    """The version to roll back to: the one that was told, or the latest former champion that is not withdrawn."""
    if to and to == before:
        raise ModelerError(f"{name}:{to} is the champion already; nothing was changed")
    former = [version for version in list_former_champions(events, before) if version in versions]
    if to or former:
        return to or former[0]
    others = [other for other in versions if other != before]
    hint = f"--to names one of the others in the store: {', '.join(others)}" if others else "retrain instead"
    raise ModelerError(f"{name} has no older champion to roll back to that is not withdrawn; {hint}")


def _promote(event: dict, name: str, staged: Path, staging: Path, mends: bool, finish: Finish | None) -> dict:
    """Rename a staged version in, or have it mend the stored one, and move `latest`; needs the name's lock."""
    if finish:
        finish(staged, event)
        _settle_files(staged)
    folder = store_home() / "models" / name / event["version"]
    with _note(name, event, staging):
        folder.parent.mkdir(exist_ok=True)
        if mends:
            for path in staged.iterdir():
                os.replace(path, folder / path.name)
        elif not folder.exists():
            os.rename(staged, folder)
        _move_latest(name, event["version"], staging)
    return event


def _reject(tag: str, run: str | None, metrics: dict | None, reasons: list[str], staging: Path) -> dict:
    """Note a rejection; needs the name's lock."""
    name, _, version = tag.partition(":")
    champion = find_champion(name)
    before = champion and champion.version
    event = make_event(REJECTED, version, before, before, run, metrics, reasons)
    with _note(name, event, staging):
        return event


def _came_about(name: str) -> Callable[[dict], bool]:
    """Whether a pending event happened: `latest` names its version, and that version is whole."""

    def came_about(event: dict) -> bool:
        champion = find_champion(name)
        named = champion is not None and champion.version == event["after"]
        return event["event"] == REJECTED or (named and find_damage(champion) is None)

    return came_about


@contextmanager
def _note(name: str, event: dict, staging: Path):
    """Announce an event, let it happen, and append it to the history; if it did not happen, nothing of it stays."""
    models = store_home() / "models"
    announce_event(models, name, event, staging / "pending")
    try:
        yield
    finally:
        try:
            settle_event(models, name, _came_about(name))
        except OSError:
            pass  # a full disk, say: it is written whole in the pending file, and the next writer settles it


def _move_latest(name: str, version: str, staging: Path) -> None:
    (staging / "latest").write_text(version)
    os.replace(staging / "latest", store_home() / "models" / name / "latest")
