"""What is written: a hidden draft while the work goes on, which takes the output's place whole, or not at all."""

import glob
import json
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs

from modeler import ModelerError, UsageError
from modeler.score.parquet import GroupWriter, name_part, open_part, upload
from modeler.score.places import Place, matches
from modeler.score.scorer import FAULTS, write_rows

MARK = "_model.json"  # written last: a folder without it is what a killed run left
FORMS = {".csv": "csv", ".parquet": "parquet"}


def find_form(place: Place) -> str:
    """ "csv", "parquet" or "folder", by the name of an output; a UsageError names what it may end in."""
    if place.is_folder:
        return "folder"
    if place.ending not in FORMS:
        raise UsageError(
            f"{place.shown} ends in {place.ending or 'nothing'}; an output ends in .csv, .parquet, or / for a folder"
        )
    return FORMS[place.ending]


def check_output(place: Place, source: Place, overwrite: bool) -> None:
    """Raise a ModelerError if the output is there already, or holds what this command never wrote, or cannot be made."""
    if place.path == source.path or place.path.startswith(f"{source.path}/") or matches(place.path, source.path):
        raise UsageError(f"the output {place.shown} is the input, or belongs to it; name another place")
    parent = str(PurePosixPath(place.path).parent) if place.is_local else place.path.partition("/")[0]
    faults = name_faults(place)
    above, there, beside = place.system.get_file_info([parent, place.path, faults])
    if above.type != pa.fs.FileType.Directory:
        raise ModelerError(
            f"there is no {'folder' if place.is_local else 'bucket'} {parent} for the output; make it first"
        )
    held = []
    if place.is_folder:
        held = _list_names(place)
        if strange := [name for name in held if not _is_ours(name)]:
            raise ModelerError(
                f"{place.shown} holds {strange[0]}, which is no part of answers; name a folder of its own"
            )
    elif there.type == pa.fs.FileType.Directory:
        raise ModelerError(f"{place.shown} is a folder; name a file in it, or end it in / for a folder of parts")
    exists = bool(held) if place.is_folder else there.type != pa.fs.FileType.NotFound
    if overwrite or not (exists or beside.type != pa.fs.FileType.NotFound):
        return
    killed = f", without {MARK}: a run was killed there, or still goes on" if held and MARK not in held else ""
    raise ModelerError(
        f"{place.shown if exists else faults} is there already{killed}; replace it with --overwrite, or name another output"
    )


def _list_names(place: Place) -> list[str]:
    """The names in an output folder, its mark first."""
    infos = place.system.get_file_info(pa.fs.FileSelector(place.path, allow_not_found=True))
    return sorted((PurePosixPath(info.path).name for info in infos), key=lambda name: (name != MARK, name))


def name_faults(place: Place) -> str:
    return f"{place.path.rstrip('/')}.faults.csv"


def _is_ours(name: str) -> bool:
    return name == MARK or (name.startswith("part-") and name.endswith(".parquet"))


class Draft:
    """The output of one job as it grows, in a with block that takes what is left of it away."""

    def __init__(self, place: Place, form: str, schema: pa.Schema, model: str):
        self._place, self._form, self._schema, self._model = place, form, schema, model
        self._part, self._open, self._writer, self.rows = -1, None, None, 0
        self._parts, self._faults = [], None
        parent = Path(place.path).parent if place.is_local else None
        self._stem = f".{PurePosixPath(place.path).name}.{socket.gethostname()}-"
        if parent:
            _clear_abandoned(parent, self._stem)
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{self._stem}{os.getpid()}-", suffix=".draft", dir=parent))
        self._file = self._scratch / PurePosixPath(place.path).name
        self._folder = str(self._file) if place.is_local else place.told
        self._sink = None
        if form == "csv":
            self._sink = open(self._file, "wb")
            self._sink.write(write_rows(pa.Table.from_batches([], schema), header=True))
        elif form == "parquet":
            self._writer = GroupWriter(self._file, schema)
        elif place.is_local:
            self._file.mkdir()

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, *_) -> None:
        """Take the draft away."""
        with suppress(Exception):
            self._turn_to(-1, False)
        for file in filter(None, (self._sink, self._faults)):
            file.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def begin(self) -> str:
        """Take away what a folder elsewhere holds: its parts are written in their place, and their mark comes last.

        Returns where workers may write parts.
        """
        if self._form == "folder" and not self._place.is_local:
            for name in _list_names(self._place):
                self._place.system.delete_file(f"{self._place.path}/{name}")
        return self._folder

    def add(self, part: int, answers: bytes | list[pa.Table] | None) -> None:
        """Add answers in the order of their rows; None is of a part that a worker wrote."""
        if self._form == "csv":
            self._sink.write(answers)
            return
        if self._form == "folder":
            self._turn_to(part, answers is not None)
        for table in answers or ():
            self._writer.write(table)

    def add_faults(self, faults: pa.Table) -> None:
        if self._faults is None:
            self._faults = open(self._scratch / "faults", "wb")
            self._faults.write(write_rows(pa.Table.from_batches([], FAULTS), header=True))
        self._faults.write(write_rows(faults))

    def commit(self, rows: int) -> None:
        """Put the output in its place; the faults come first, since they alone are no result."""
        if self._form == "folder":
            if not self._parts:
                self._turn_to(0, True)
            self._turn_to(-1, False)
            mark = {"model": self._model, "rows": rows, "parts": [name_part(part) for part in self._parts]}
            text = json.dumps(mark, indent=1, ensure_ascii=False) + "\n"
        elif self._form == "parquet":
            self._writer.close()
        else:
            self._sink.close()
        self._commit_faults()
        place = self._place
        if self._form == "folder" and place.is_local:
            kept = {name_part(part) for part in self._parts}
            for path in self._file.iterdir():
                if path.name not in kept:  # of a worker that was killed
                    path.unlink()
            (self._file / MARK).write_text(text, "utf-8")
            _exchange(self._file, Path(place.path), self._scratch)
        elif self._form == "folder":
            (self._scratch / MARK).write_text(text, "utf-8")
            upload(self._scratch / MARK, place.system, f"{place.path}/{MARK}")
        elif place.is_local:
            os.replace(self._file, place.path)
        else:
            upload(self._file, place.system, place.path)

    def _turn_to(self, part: int, here: bool) -> None:
        """End the part that is open and begin another, unless a worker wrote it."""
        if part == self._part:
            return
        if self._open:
            opened, self._open = self._open, None
            opened.__exit__(None, None, None)
        self._part = part
        if part >= 0:
            self._parts.append(part)
        if here:
            self._open = open_part(self._folder, part, self._schema)
            self._writer = self._open.__enter__()

    def _commit_faults(self) -> None:
        path = name_faults(self._place)
        if self._faults:
            self._faults.close()
            if self._place.is_local:
                os.replace(self._scratch / "faults", path)
            else:
                upload(self._scratch / "faults", self._place.system, path)
        elif self._place.system.get_file_info(path).type != pa.fs.FileType.NotFound:
            self._place.system.delete_file(path)


def _exchange(draft: Path, target: Path, scratch: Path) -> None:
    if target.exists():
        os.rename(target, scratch / "before")
    os.rename(draft, target)


def _clear_abandoned(parent: Path, stem: str) -> None:
    """Delete the drafts of processes of this machine that were killed."""
    for path in parent.glob(f"{glob.escape(stem)}*.draft"):
        number = path.name[len(stem) :].partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(path, ignore_errors=True)
