"""Where an input or an output lies: a local path, or an address such as s3://bucket/name, by pyarrow's file systems."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs

from modeler import ModelerError, UsageError, first_line

WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Place:
    """A file or a folder: as it was told, its file system, and its path there."""

    told: str
    system: pa.fs.FileSystem
    path: str

    @property
    def shown(self) -> str:
        """How messages name it: an address without keys and settings."""
        if "://" not in self.told:
            return self.told
        return f"{urlsplit(self.told).scheme}://{self.path}{'/' if self.is_folder else ''}"

    @property
    def is_local(self) -> bool:
        return isinstance(self.system, pa.fs.LocalFileSystem)

    @property
    def is_folder(self) -> bool:
        """Does the name end in a slash, as that of an output folder does?"""
        return urlsplit(self.told).path.endswith("/") if "://" in self.told else self.told.endswith("/")

    @property
    def ending(self) -> str:
        return PurePosixPath(self.path).suffix.lower()


@lru_cache(maxsize=64)
def find_place(told: str) -> Place:
    """The place of a path or of an address; a UsageError names an address that pyarrow has no file system for."""
    if "://" not in told:
        return Place(told, pa.fs.LocalFileSystem(), str(Path(told).expanduser().absolute()))
    try:
        system, path = pa.fs.FileSystem.from_uri(told)
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        raise UsageError(f"{urlsplit(told).scheme}:// cannot be reached: {first_line(error)}") from None
    return Place(told, system, path)


def list_files(place: Place) -> list[str]:
    """The paths of the files that an input names, in their order: one file, a pattern's, or the Parquet files of a folder.

    Names that begin with a dot or an underscore are left out, as other tools do. A ModelerError says that there are none.
    """
    try:
        (info,) = place.system.get_file_info([place.path])
        if info.type == pa.fs.FileType.NotFound and WILD.search(place.path):
            return _match(place)
        if info.type == pa.fs.FileType.File:
            return [place.path]
        if info.type == pa.fs.FileType.Unknown:
            raise ModelerError(f"{place.shown} is a pipe or a device; save what comes out of it as a file")
        found = _walk(place, place.path) if info.type == pa.fs.FileType.Directory else []
    except (OSError, ValueError) as error:
        raise ModelerError(f"{place.shown} cannot be looked at: {first_line(error)}") from None
    if info.type == pa.fs.FileType.NotFound:
        raise ModelerError(
            f"{place.shown} does not exist; give the path of a .csv or .parquet file, a folder or a pattern"
        )
    if not found:
        raise ModelerError(f"the folder {place.shown} holds no .parquet file; a .csv file is named by itself")
    return found


def matches(path: str, pattern: str) -> bool:
    """Does a path match a pattern, in which no * stands for a slash?"""
    return PurePosixPath("/" + path.lstrip("/")).match("/" + pattern.lstrip("/"))


def _match(place: Place) -> list[str]:
    fixed = place.path[: WILD.search(place.path).start()].rpartition("/")[0]
    found = [path for path in _walk(place, fixed or "/") if matches(path, place.path)]
    if not found:
        raise ModelerError(
            f"no .parquet file matches {place.shown}; put the pattern in quotes, and see that it is right"
        )
    return found


def _walk(place: Place, folder: str) -> list[str]:
    """The Parquet files below a folder, sorted."""
    infos = place.system.get_file_info(pa.fs.FileSelector(folder, allow_not_found=True, recursive=True))
    inner = {info.path: PurePosixPath(info.path[len(folder) :]).parts for info in infos if info.is_file}
    return sorted(
        path
        for path, parts in inner.items()
        if path.lower().endswith(".parquet") and not any(part[0] in "._" for part in parts)
    )
