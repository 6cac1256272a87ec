"""Parquet as it is read and written in pieces: slices of row groups in, parts with row groups of one size out."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from modeler import ModelerError, first_line
from modeler.score.places import find_place

GROUP_ROWS = 1 << 17  # rows of each row group that is written
BUFFERED = 1 << 28  # bytes of a row group up to which it is fetched at once
STREAM = 1 << 22  # bytes of a column that are fetched at a time beyond


class Slice(NamedTuple):
    """Rows of one row group: `told` is the input as it was named, `path` the file on its file system."""

    told: str
    path: str
    group: int
    offset: int
    rows: int


def read_slices(
    slices: Sequence[Slice], columns: Sequence[str], coded: Sequence[str], batch_rows: int, footers: dict
) -> Iterator[pa.RecordBatch]:
    """Read rows in batches of at most `batch_rows`, which begin anew with each slice.

    `footers` keeps the footer of the last file by its path from call to call: one of many row groups takes long to read.
    """
    for told, path, group, offset, rows in slices:
        try:
            with find_place(told).system.open_input_file(path) as file:
                if (footer := footers.get(path)) is None:
                    footers.clear()
                    footer = footers[path] = pa.parquet.read_metadata(file)
                for batch in _read_group(file, footer, group, columns, coded, batch_rows, offset + rows):
                    if offset < len(batch):
                        yield batch.slice(offset)
                    offset = max(0, offset - len(batch))
        except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
            raise ModelerError(
                f"{path} cannot be read in row group {group}: {first_line(error)}; it is damaged or changes meanwhile"
            ) from None


def _read_group(file, footer, group: int, columns, coded, batch_rows: int, rows: int) -> Iterator[pa.RecordBatch]:
    whole = footer.row_group(group).total_byte_size <= BUFFERED
    reader = pa.parquet.ParquetFile(
        file, metadata=footer, read_dictionary=list(coded), pre_buffer=whole, buffer_size=0 if whole else STREAM
    )
    for batch in reader.iter_batches(batch_rows, [group], list(columns), use_threads=False):
        yield batch.slice(0, rows)
        rows -= len(batch)
        if rows <= 0:
            return


class GroupWriter:
    """Writes tables of any length as row groups of one size, so that the file does not tell how its rows arrived."""

    def __init__(self, sink: str | Path, schema: pa.Schema):
        self._schema, self._waiting, self._rows = schema, [], 0
        self._writer = pa.parquet.ParquetWriter(str(sink), schema)

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows += len(table)
        if self._rows >= GROUP_ROWS:
            whole = pa.concat_tables(self._waiting)
            full = self._rows // GROUP_ROWS * GROUP_ROWS
            self._writer.write_table(whole.slice(0, full).combine_chunks(), GROUP_ROWS)
            self._waiting, self._rows = [whole.slice(full)], self._rows - full

    def close(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks(), GROUP_ROWS)
        self._writer.close()


def name_part(part: int) -> str:
    return f"part-{part:05}.parquet"


@contextmanager
def open_part(folder: str, part: int, schema: pa.Schema) -> Iterator[GroupWriter]:
    """A writer of one part of an output folder; the part is there once it is whole."""
    place = find_place(folder)
    if place.is_local:
        draft = Path(place.path) / f".{name_part(part)}.{os.getpid()}"
        yield from _write(draft, schema)
        os.replace(draft, Path(place.path) / name_part(part))
        return
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / name_part(part)
        yield from _write(draft, schema)
        upload(draft, place.system, f"{place.path}/{name_part(part)}")


def _write(draft: Path, schema: pa.Schema) -> Iterator[GroupWriter]:
    writer = GroupWriter(draft, schema)
    try:
        yield writer
        writer.close()
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def upload(file: Path, system: pa.fs.FileSystem, path: str) -> None:
    """Copy a local file to a file system, where it appears whole or not at all."""
    try:
        pa.fs.copy_files(str(file), path, source_filesystem=pa.fs.LocalFileSystem(), destination_filesystem=system)
    except OSError as error:
        raise ModelerError(f"{path} cannot be written: {first_line(error)}; permit it, then run again") from None
