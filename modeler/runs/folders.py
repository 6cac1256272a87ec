"""The folders of runs: when each began and by which process, as its name tells, and whether that is at work."""

import re
from datetime import datetime, timezone
from pathlib import Path

NAMED = re.compile(r"(\d{8}-\d{6})-(\d+)")  # when it began, in UTC, and its process
RANKED = "ranked"  # a combination of a sweep that was not the best, so that the gate did not judge it


def read_start(folder: Path) -> datetime | None:
    """When a run began; None for a folder that is none."""
    named = NAMED.fullmatch(folder.name)
    try:
        return datetime.strptime(named[1], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc) if named else None
    except ValueError:
        return None


def read_process(folder: Path) -> int:
    """The number of the process that a run is named by."""
    return int(NAMED.fullmatch(folder.name)[2])


def is_at_work(folder: Path) -> bool:
    """Whether the process that a run is named by lives; one that was started later only has its number."""
    import psutil

    if (began := read_start(folder)) is None:
        return False
    try:
        return psutil.Process(read_process(folder)).create_time() <= began.timestamp() + 1
    except (psutil.Error, ValueError, OverflowError):
        return False
