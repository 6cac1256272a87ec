"""The history of one name: every promotion, rejection and rollback, one line of JSON each.

The lines stand in `models/NAME.history.jsonl` of BentoML's home, a file that BentoML's own commands pass over. An event
is first written whole to `models/.NAME.pending.json`, then it comes about (`latest` is moved), then its line is appended,
then the pending file goes. Whoever is killed in between leaves the pending file, and the next writer, or reader, finds
out whether it came about. Writers hold the lock of the name (`modeler.store`); readers need none.
"""

import json
import os
import shutil
import socket
import textwrap
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from modeler import ModelerError
from modeler.store.lock import find_user

FIELDS = {"id", "when", "user", "host", "event", "version", "before", "after", "run", "metrics", "reasons"}
PROMOTED, REJECTED, ROLLED_BACK = "promoted", "rejected", "rolled back"
CameAbout = Callable[[dict], bool]


def make_event(
    event: str,
    version: str,
    before: str | None,
    after: str | None,
    run: str | None,
    metrics: dict | None,
    reasons: list[str],
) -> dict:
    """Describe what the present user does on this host now.

    Parameters
    ----------
    event
        PROMOTED, REJECTED or ROLLED_BACK.
    version
        The version it is about: the candidate's, or the one rolled back to.
    before, after
        The version that `latest` names before and after.
    """
    return {
        "id": uuid.uuid4().hex,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "user": find_user(),
        "host": socket.gethostname(),
        "event": event,
        "version": version,
        "before": before,
        "after": after,
        "run": run,
        "metrics": metrics,
        "reasons": reasons,
    }


def read_events(models: Path, name: str, came_about: CameAbout) -> list[dict]:
    """The events of a name, oldest first; a pending one is included if `came_about` says that it happened.

    A ModelerError names a line that is no event. A last line without an end was never finished, and is passed over.
    """
    pending = _read_pending(models, name)  # first: a writer appends it before it takes it away
    events = []
    try:
        lines = _history(models, name).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for number, line in enumerate(lines, 1):
        try:
            events += [_parse(line)] if line else []
        except ValueError:
            if number == len(lines):
                break
            raise ModelerError(
                f"{_history(models, name)}, line {number}, is no event; mend that line or take it out"
            ) from None
    if pending and all(event["id"] != pending["id"] for event in events) and came_about(pending):
        events.append(pending)
    return events


def announce_event(models: Path, name: str, event: dict, draft: Path) -> None:
    """Write an event that is about to come about; `draft` is a path on the same filesystem for the unfinished file."""
    _write_through(draft, (json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n").encode(), "wb")
    os.replace(draft, _pending(models, name))


def settle_event(models: Path, name: str, came_about: CameAbout) -> None:
    """Append the pending event if it happened and is not in the history yet, and remove it.

    An unfinished last line is taken out before. Needs the name's lock.
    """
    if (pending := _read_pending(models, name)) is None:
        return
    path = _history(models, name)
    if path.exists():
        with open(path, "r+b") as file:
            content = file.read()
            end = content.rfind(b"\n") + 1
            try:
                file.write(b"\n" if content[end:] and _parse(content[end:]) else b"")
            except ValueError:
                file.truncate(end)
    if pending["id"].encode() not in (path.read_bytes() if path.exists() else b"") and came_about(pending):
        _write_through(path, _pending(models, name).read_bytes(), "ab")
    _pending(models, name).unlink()


def list_withdrawn(events: list[dict]) -> dict[str, dict]:
    """The versions that were rolled back from, with that event, and that have not become champion again since."""
    withdrawn = {}
    for event in events:
        if event["event"] == ROLLED_BACK and event["before"]:
            withdrawn[event["before"]] = event
        if event["event"] != REJECTED:
            withdrawn.pop(event["after"], None)
    return withdrawn


def list_former_champions(events: list[dict], champion: str | None) -> list[str]:
    """The versions that were champion before the present one, the latest first, without withdrawn ones."""
    terms = [version for event in events if event["event"] != REJECTED for version in (event["before"], event["after"])]
    out = {None, champion, *list_withdrawn(events)}
    return [version for version in dict.fromkeys(reversed(terms)) if version not in out]


def format_history(events: list[dict], champion: str | None) -> str:
    """The events as a table that fits the terminal, oldest first."""
    width = max(60, shutil.get_terminal_size().columns)
    withdrawn, lines = list_withdrawn(events), [f"{'when (UTC)':<19}  {'event':<11}  {'version':<16}  by"]
    marks = {version: "withdrawn" for version in withdrawn} | {champion: "the champion"}
    for event in events:
        when = event["when"][:19].replace("T", " ")
        lines.append(f"{when}  {event['event']:<11}  {event['version']:<16}  {event['user']} on {event['host']}")
        metrics = (event["metrics"] or {}).items()  # of all classes together; --json has those of each
        scores = [f"{metric} {value:.3f}" for metric, value in metrics if value is not None and ":" not in metric]
        before = event["before"] if event["before"] != event["after"] else None
        told = [
            ", ".join(filter(None, [before and f"after {before}", event["run"] and f"run {event['run']}"])),
            ", ".join(scores),
            *event["reasons"],
        ]
        if event["event"] != REJECTED and event is _last_about(events, event["after"]) and event["after"] in marks:
            told.insert(0, f"now {marks[event['after']]}")
        for text in filter(None, told):
            lines += textwrap.wrap(text, width, initial_indent=" " * 21, subsequent_indent=" " * 23)
    return "\n".join(line[:width] for line in lines)


def _last_about(events: list[dict], version: str) -> dict:
    return [event for event in events if event["event"] != REJECTED and event["after"] == version][-1]


def _read_pending(models: Path, name: str) -> dict | None:
    try:
        return _parse(_pending(models, name).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _parse(line: bytes) -> dict:
    event = json.loads(line)
    if not isinstance(event, dict) or FIELDS - event.keys():
        raise ValueError("no event")
    return event


def _write_through(path: Path, content: bytes, mode: str) -> None:
    """Write, and return when the content would outlast a power cut."""
    with open(path, mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _history(models: Path, name: str) -> Path:
    return models / f"{name}.history.jsonl"


def _pending(models: Path, name: str) -> Path:
    return models / f".{name}.pending.json"
