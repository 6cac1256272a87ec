"""Old versions and bentos of a name: why some must stay, and how the others leave the store in one step each.

`bentoml models delete` is no way to do that. It deletes file by file, so a kill leaves half a model, and then it has `latest`
name the newest version, which may be one that was rolled back from.
"""

import os
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import yaml

from modeler import ModelerError
from modeler.model.stored import find_champion, list_versions, store_home
from modeler.store.history import REJECTED, list_former_champions
from modeler.store.lock import explain_errors, lock_name, stage_files
from modeler.store.publish import read_history

CHAMPION, BEFORE = "the champion", "the champion before, which a rollback takes"


def sort_versions(name: str) -> dict[str, Path]:
    """The stored versions of a name and their folders, the newest first."""
    folder = store_home() / "models" / name
    folders = [folder / version for version in list_versions(name)]
    folders.sort(key=lambda path: _read_time(path, _read_yaml(path / "model.yaml")), reverse=True)
    return {path.name: path for path in folders}


def sort_bentos(name: str) -> dict[str, Path]:
    """The tags of the bentos that the pipeline's service made of a name's versions, and their folders, the newest first."""
    found = [
        (path.parent, described)
        for path in (store_home() / "bentos" / name).glob("*/bento.yaml")
        if _read_pinned(described := _read_yaml(path)).startswith(f"{name}:")
    ]
    found.sort(key=lambda pair: _read_time(*pair), reverse=True)
    return {f"{name}:{folder.name}": folder for folder, _ in found}


def explain_versions(
    name: str, used: Mapping[str, str], since: datetime | None, leaving: Collection[Path]
) -> dict[str, str]:
    """Why versions of a name must stay.

    A ModelerError: the name has versions and no champion, or a bento cannot be read, so that what it pins is not known.

    Parameters
    ----------
    used
        Versions that somebody uses, with the reason.
    since
        When the first of the runs that are not decided yet began; each may look at all that was champion since.
    leaving
        Folders of bentos that are to go, too; what they pin need not stay.
    """
    versions, events, champion = list_versions(name), read_history(name), find_champion(name)
    if not versions:
        return {}
    if champion is None:
        raise ModelerError(
            f"{name} has versions and no champion, so it is not known which of them are needed; "
            f"`python pipeline.py rollback {name} --to VERSION` makes one, then prune again"
        )
    needed: dict[str, str] = {}
    for event in events:
        if since and event["event"] != REJECTED and datetime.fromisoformat(event["when"]) >= since:
            needed |= dict.fromkeys(
                (event["before"], event["after"]), "it was champion since a run began that still works"
            )
    needed |= used
    for folder in (store_home() / "bentos").glob("*/*/") if (store_home() / "bentos").is_dir() else []:
        if folder not in leaving and folder.is_dir():
            needed |= {version: f"the bento {_tag(folder)} pins it" for version in _find_pinned(folder, name, versions)}
    former = [version for version in list_former_champions(events, champion.version) if version in versions]
    needed |= dict.fromkeys(former[:1], BEFORE)
    return {version: why for version, why in (needed | {champion.version: CHAMPION}).items() if version in versions}


def explain_bentos(name: str, bentos: Mapping[str, Path]) -> dict[str, str]:
    """Why bentos must stay: the newest of the champion, and of the champion before."""
    needed, pinned = {}, {tag: _read_pinned(_read_yaml(folder / "bento.yaml")) for tag, folder in bentos.items()}
    for version, why in explain_versions(name, {}, None, bentos.values()).items():
        if tag := next(
            (tag for tag in bentos if pinned[tag] == f"{name}:{version}" and why in (CHAMPION, BEFORE)), None
        ):
            needed[tag] = f"of {why}"
    return needed


def take_out(name: str, choose: Callable[[], Mapping[Hashable, Path]]) -> list:
    """Delete the folders that `choose` returns, under the name's lock; their keys.

    Each leaves the store by a rename. A kill in between leaves whole models and bentos, and what was to be deleted in the staging
    folder, which the next writer clears. A ModelerError: the store cannot be written, or the name stays locked.
    """
    gone = []
    with explain_errors(), stage_files() as staging, lock_name(name):
        for key, folder in choose().items():
            try:
                _forget(folder, staging)
                os.rename(folder, staging / f"{len(gone)}")
            except OSError as error:
                raise ModelerError(
                    f"{_tag(folder)} cannot be taken out of the store: {error.strerror}; permit it and run again. "
                    f"{len(gone)} of what was listed is deleted, the rest stays"
                ) from None
            gone.append(key)
            with suppress(OSError):
                folder.parent.rmdir()  # a name without any bento is none
    return gone


def _forget(folder: Path, staging: Path) -> None:
    """Have `latest` name another bento than this one, or none. No champion is ever taken out, so models need it not."""
    latest = folder.parent / "latest"
    if not latest.exists() or latest.read_text().strip() != folder.name:
        return
    others = [path.parent for path in folder.parent.glob("*/bento.yaml") if path.parent != folder]
    if others:
        newest = max(others, key=lambda path: _read_time(path, _read_yaml(path / "bento.yaml")))
        (staging / "latest").write_text(newest.name)
        os.replace(staging / "latest", latest)
    else:
        latest.unlink()


def _find_pinned(bento: Path, name: str, versions: Collection[str]) -> list[str]:
    """The versions of a name that a bento's description mentions."""
    try:
        told = (bento / "bento.yaml").read_text("utf-8")
    except (OSError, ValueError):
        raise ModelerError(
            f"the bento {_tag(bento)} cannot be read, so it is not known what it pins; it is being built, or damaged: "
            f"wait, or remove {bento}, then prune again"
        ) from None
    return [version for version in versions if f"{name}:{version}" in told]


def _read_pinned(bento: dict) -> str:
    """The tag of the model in a bento, as the pipeline's service labels it; empty for a bento of others."""
    labels = bento.get("labels")
    return str(labels.get("model", "")) if isinstance(labels, dict) else ""


def _tag(folder: Path) -> str:
    return f"{folder.parent.name}:{folder.name}"


def _read_time(folder: Path, described: dict) -> datetime:
    """When a model or bento was made, by its description or, if that does not tell, by its folder."""
    try:
        told = datetime.fromisoformat(str(described["creation_time"]))
        return told if told.tzinfo else told.replace(tzinfo=timezone.utc)
    except (KeyError, ValueError):
        return datetime.fromtimestamp(folder.stat().st_mtime, timezone.utc)


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
