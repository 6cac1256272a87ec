"""A sample of data too large to train on: about so many rows, chosen by their hash while the files are read as a stream."""

import csv
import hashlib
import io
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from modeler import ModelerError, UsageError, did_you_mean, first_line
from modeler.data import reading
from modeler.data.dialect import SEPARATORS, CsvFormat
from modeler.data.reading import explain_parquet, find_format, refuse_types

SAMPLES = ".samples"  # below runs/: one folder for each sample, named by its content
BLOCK = 1 << 24  # characters, or 1/100 of it in rows, that are read at a time
LONGEST = reading.BLOCK  # bytes of a row
MOST_COUNTED = 2_000_000  # different rows whose repetitions are counted


@dataclass(frozen=True)
class Sample:
    """A file with the chosen rows in their order, and of how many rows they are."""

    path: Path
    rows: int
    of: int


class _Smallest:
    """The rows with the smallest keys so far, about `wanted` of them; all rows of one key stay together."""

    def __init__(self, wanted: int):
        self.wanted, self.seen, self._limit = wanted, 0, np.uint64(2**64 - 1)
        self._parts: list[tuple] = []
        self._counts = pd.Series(dtype="int64")

    @property
    def rows(self) -> list:
        """The rows kept, block by block."""
        self._cut()
        return [rows for _, rows in self._parts]

    def offer(self, hashes: np.ndarray, rows: pa.Array | pa.RecordBatch, *, grouped: bool) -> None:
        """Look at a block of rows and their hashes, which are their keys if rows of one hash are to stay together."""
        keys = hashes if grouped else self._tell_apart(hashes)
        self.seen += len(keys)
        near = np.flatnonzero(keys <= self._limit)
        self._parts.append((keys[near], rows.take(pa.array(near))))
        if sum(len(keys) for keys, _ in self._parts) > 2 * self.wanted:
            self._cut()

    def _cut(self) -> None:
        """Leave out what is above the `wanted`th smallest key."""
        keys = np.concatenate([keys for keys, _ in self._parts])
        if len(keys) > self.wanted:
            self._limit = np.partition(keys, self.wanted - 1)[self.wanted - 1]
            kept = [np.flatnonzero(keys <= self._limit) for keys, _ in self._parts]
            pairs = zip(self._parts, kept)
            self._parts = [(keys[near], rows.take(pa.array(near))) for (keys, rows), near in pairs if len(near)]

    def _tell_apart(self, hashes: np.ndarray) -> np.ndarray:
        """Keys of rows and of their occurrence numbers among equal rows."""
        series = pd.Series(hashes)
        number = series.groupby(series).cumcount() + self._counts.reindex(series).fillna(0).to_numpy("int64")
        if len(self._counts) < MOST_COUNTED:
            self._counts = self._counts.add(series.value_counts(), fill_value=0).astype("int64")
        return pd.util.hash_pandas_object(pd.DataFrame({"hash": series, "number": number}), index=False).to_numpy()


def take_sample(source: Path, rows: int, by: str, written: CsvFormat, samples: Path) -> Sample:
    """Keep about so many rows of a .csv file, a .parquet file or a folder of Parquet files, in a new file below `samples`.

    Those with the smallest hash of content and occurrence number are kept, or of `by`, a column, so that its groups stay
    whole. When the data grow, new rows replace old ones, and no old one comes in that was not there. The file has the name of
    the source and stands in a folder named by its content. A ModelerError: the source cannot be read.
    """
    is_csv, smallest = source.suffix.lower() == ".csv", _Smallest(rows)
    samples.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=samples) as draft:
        path = Path(draft, source.name if is_csv else f"{source.stem}.parquet")
        try:
            (_sample_csv if is_csv else _sample_parquet)(source, by, written, smallest, path)
        except OSError as error:
            raise ModelerError(f"{source} cannot be sampled: {error.strerror or error}") from None
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        (samples / digest).mkdir(exist_ok=True)
        os.replace(path, samples / digest / path.name)
        return Sample(samples / digest / path.name, sum(map(len, smallest.rows)), smallest.seen)


def _sample_csv(source: Path, by: str, written: CsvFormat, smallest: _Smallest, path: Path) -> None:
    encoding, _, separator = find_format(source, written)
    separator = SEPARATORS[separator]
    blocks = _read_records(source, encoding)
    header, *first = next(blocks)
    names = next(csv.reader(io.StringIO(header.decode(), newline=""), delimiter=separator))
    _check_by(by, names, source)
    for records in itertools.chain([first], blocks):
        hashed = _read_column(source, records, names, by, separator) if by else records
        hashes = pd.util.hash_array(np.array(hashed, dtype=object), categorize=False)
        smallest.offer(hashes, pa.array(records, pa.binary()), grouped=bool(by))
    kept = (record for records in smallest.rows for record in records.to_pylist())
    with open(path, "w", encoding=encoding, newline="") as file:
        file.writelines(record.decode() + "\n" for record in itertools.chain([header], kept))


def _read_records(source: Path, encoding: str) -> Iterator[list[bytes]]:
    """The records of a .csv file in UTF-8, block by block; a line break within quotes ends none."""
    rest = b""
    try:
        with open(source, encoding=encoding, newline="") as file:
            while text := file.read(BLOCK):
                records, rest = _split_records(rest + text.encode())
                if len(rest) > LONGEST:
                    raise ModelerError(
                        f"a row of {source} has more than {LONGEST / 1e6:.0f} MB, {rest[:60].decode()!r}; close its quotes"
                    )
                if records:
                    yield records
    except UnicodeDecodeError as error:
        raise ModelerError(
            f"{source} cannot be read as .csv in {encoding}: {error.reason}; say its encoding with -p encoding=NAME"
        ) from None
    if rest.strip():
        yield [rest.rstrip(b"\r")]


def _split_records(block: bytes) -> tuple[list[bytes], bytes]:
    """The whole records of a block that begins with one, and what is left of it."""
    letters = np.frombuffer(block, dtype="uint8")
    ends = np.flatnonzero(letters == ord("\n"))
    quotes = np.flatnonzero(letters == ord('"'))
    ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    starts = [0, *(ends + 1)]
    records = [block[start:end].rstrip(b"\r") for start, end in zip(starts, ends)]
    return [record for record in records if record.strip()], block[starts[-1] :]


def _read_column(source: Path, records: list[bytes], names: list[str], name: str, separator: str) -> list:
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types={name: pa.string()}, include_columns=[name])
    read = pa.csv.ReadOptions(column_names=names, block_size=1 << 28)
    try:
        return pa.csv.read_csv(io.BytesIO(b"\n".join(records)), read, parse, convert)[name].to_pylist()
    except pa.ArrowInvalid as error:
        raise ModelerError(f"{source} has uneven rows: {first_line(error)}; mend them") from None


def _sample_parquet(source: Path, by: str, _: CsvFormat, smallest: _Smallest, path: Path) -> None:
    files = [source] if source.is_file() else list_parquet(source)
    schema = None
    for file in files:
        with explain_parquet(file):
            reader = pa.parquet.ParquetFile(file)
            if schema is None:
                schema = reader.schema_arrow.remove_metadata()
                refuse_types(schema, file)
                _check_by(by, schema.names, source)
            if not reader.schema_arrow.remove_metadata().equals(schema):
                raise ModelerError(f"{file} has other columns or types than {files[0]}; write them alike")
            for batch in reader.iter_batches(BLOCK // 100):
                frame = (batch.select([by]) if by else batch).to_pandas()
                hashes = pd.util.hash_pandas_object(frame, index=False, categorize=False).to_numpy()
                smallest.offer(hashes, batch.replace_schema_metadata(None), grouped=bool(by))
    pa.parquet.write_table(pa.Table.from_batches(smallest.rows, schema), path)


def list_parquet(folder: Path) -> list[Path]:
    """The Parquet files in a folder and below it, sorted; those that begin with a dot or an underscore are left out."""
    found = [
        path
        for path in sorted(folder.rglob("*.parquet"))
        if path.is_file() and not any(part[0] in "._" for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise ModelerError(f"the folder {folder} holds no .parquet file; name a .csv file by itself")
    return found


def _check_by(by: str, names: list[str], source: Path) -> None:
    if by and by not in names:
        raise UsageError(f"--split-by {by}: {source} has no such column{did_you_mean(by, names)}")
