"""Reading a .csv or .parquet file: how it is written, what of that had to be assumed, and what cannot be read."""

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from modeler import ModelerError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
# A retrain's peak memory in bytes: its own, and for each byte of a .csv file, or of a Parquet file's cells at 8 bytes each,
# 11 more (benchmarks/scale.py: 0.7 GB for 1,000 rows, 3.3 GB for a file of 0.25 GB).
OWN_NEED, BYTE_NEED = 700_000_000, 11
SAMPLE = 1 << 18  # bytes from which separator and encoding are told
BLOCK = 1 << 25  # bytes; the longest row a file may have
NOTED = 0.9  # share of numbers from which a text among them is worth a word
# What pandas.read_csv takes for a missing value.
MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
           "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]  # fmt: skip
BOOLEANS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE", None])
CODE = r"^\s*[+-]?0[0-9xX]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# Numbers with a comma before their decimals, and points or nothing between their thousands; and the other way round.
WITH_COMMA = r"^[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d+)?$"
WITH_POINT = r"^[+-]?([1-9]\d{0,2}(,\d{3})+|\d+)(\.\d+)?$"
FOREIGN = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a zip archive or an Excel workbook", b"\x1f\x8b": "a gzip archive",
           b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"%PDF": "a PDF", b"SQLite": "an SQLite database"}  # fmt: skip
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class CsvFormat:
    """How a .csv file is written, each told from the file where it is "auto".

    `separator` is one of comma, semicolon, tab and pipe, `decimal` point or comma, `encoding` a name that Python knows.
    """

    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"

    @classmethod
    def from_parameters(cls, told: Mapping) -> "CsvFormat":
        """What the parameters of a notebook say; what they leave out is told from the file."""
        return cls(*(told.get(field.name, "auto") for field in fields(cls)))


def read_csv(path: Path, told: CsvFormat) -> tuple[pd.DataFrame, list[str]]:
    """Read a .csv file whole, as texts first, so that nothing is decided by its first rows alone.

    Returns
    -------
    tuple
        The table, and a sentence for everything that was assumed of the file.

    Raises
    ------
    ModelerError
        When the file is not what its ending says, does not fit into memory, or can be read in more than one way; the
        message names the parameter that settles it.
    """
    _check_memory(path, path.stat().st_size)
    with open(path, "rb") as file:
        head = file.read(SAMPLE)
    _refuse_foreign(path, head)
    encoding, assumed = _find_encoding(path, head, told.encoding)
    sample = head.decode(encoding, "ignore")
    if not sample.strip():
        raise ModelerError(f"{path} is empty; give a file with a header and at least a few dozen rows")
    csv.field_size_limit(BLOCK)
    separator = _find_separator(path, sample, told.separator, len(head) == SAMPLE)
    notes = [] if separator == "comma" else [f"separator {separator}"]
    header, table = _parse(path, SEPARATORS[separator], encoding)
    if len(header) > 1 and all(name.startswith(" ") for name in header[1:]):
        header, table = [name.strip() for name in header], _trim(table)
        notes.append("the space after each separator left out")
    raw, left_out = _name_columns(path, header, table)
    columns = {name: _convert(column) for name, column in raw.items()}
    decimal = _find_decimal(path, raw, columns, told.decimal)
    if decimal == "comma":
        notes.append("decimal comma")
    columns = {name: _convert_local(raw[name], column, decimal) for name, column in columns.items()}
    if notes := notes + assumed:
        notes = [f"read with {', '.join(notes)}"]
    notes += left_out + _note_texts(columns)
    return pa.table(list(columns.values()), names=list(columns)).to_pandas(), notes


def read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a .parquet file; the same as `read_csv`, but nothing has to be assumed."""
    try:
        described = pa.parquet.ParquetFile(path).metadata
        _check_memory(path, 8 * described.num_rows * described.num_columns)
        table = pa.parquet.read_table(path)
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        with open(path, "rb") as file:
            begins = file.read(20)
        raise ModelerError(
            f"{path} cannot be read as Parquet: {_first_line(error)}; it begins with {begins!r}; mend the file or its ending"
        ) from None
    for field in table.schema:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            raise ModelerError(
                f"column {field.name!r} of {path} holds values of the type {field.type}; make columns of one number, "
                "text or boolean each of it, or leave it out"
            )
    _refuse_repeated(path, table.column_names)
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(position, field.name, table[position].cast(pa.float64()))
    frame = table.to_pandas()
    return frame.set_axis(frame.columns.map(str), axis=1), []


def _check_memory(path: Path, size: int) -> None:
    need, free = OWN_NEED + BYTE_NEED * size, _free_memory()
    if need > free:
        raise ModelerError(
            f"{path} has {path.stat().st_size / 1e9:.1f} GB; a retrain on it needs about {need / 1e9:.0f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free. Take a sample of its rows, leave out columns, or take a larger machine"
        )


def _free_memory() -> int:
    """Bytes that this process may still take: of the machine and, in a container, of its limit."""
    free = psutil.virtual_memory().available
    try:
        group = Path("/sys/fs/cgroup")
        return min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or no limit
        return free


def _refuse_foreign(path: Path, head: bytes) -> None:
    kind = next((kind for magic, kind in FOREIGN.items() if head.startswith(magic)), None)
    if not kind and b"\0" in head and not head.startswith(tuple(BYTE_ORDER_MARKS)):
        kind = "a binary file"
    if kind:
        raise ModelerError(f"{path} is {kind}, not a .csv file; export it as .csv or mend its ending")


def _find_encoding(path: Path, head: bytes, told: str) -> tuple[str, list[str]]:
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if told != "auto":
        try:
            known = codecs.lookup(told).name
        except LookupError:
            raise ModelerError(f"encoding {told!r} is none that Python knows; try utf-8, cp1252 or latin-1") from None
        return marked if marked and marked.startswith(known) else told, [f"encoding {told}"]
    if marked:
        return marked, [] if marked == "utf-8-sig" else [f"encoding {marked}"]
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as file:
            while part := file.read(1 << 24):
                decoder.decode(part)
        decoder.decode(b"", True)
        return "utf-8", []
    except UnicodeDecodeError:
        return "cp1252", [
            "encoding cp1252 (Western Windows and Latin-1; it is not UTF-8, -p encoding=NAME says another)"
        ]


def _find_separator(path: Path, sample: str, told: str, cut: bool) -> str:
    """The separator with which the header has several names, and the sample's rows as many values."""
    if told in SEPARATORS:
        return told
    if told != "auto":
        raise ModelerError(f"separator {told!r} is none of {', '.join(SEPARATORS)}")
    widths = {}
    for name, character in SEPARATORS.items():
        rows = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=character) if row]
        widths[name] = rows[:-1] if cut and len(rows) > 1 else rows
    several = [name for name, rows in widths.items() if rows[0] > 1]
    even = [name for name in several if len(set(widths[name])) == 1]
    if len(found := even or several) == 1:
        return found[0]
    what = f"could be {' or '.join(found)}" if found else f"is none of {', '.join(SEPARATORS)}, or it has one column"
    raise ModelerError(
        f"the separator of {path} {what}: it begins with {sample.splitlines()[0][:60]!r}; "
        f"say it with -p separator={(found or ['comma'])[0]}"
    )


def _parse(path: Path, separator: str, encoding: str, use_threads: bool = True) -> tuple[list[str], pa.Table]:
    """The header, and all columns as texts, None where a value is missing."""
    uneven = []

    def remember(row) -> str:
        uneven.append(row)
        return "skip"

    try:
        with open(path, encoding=encoding, newline="") as file:
            header = next(row for row in csv.reader(file, delimiter=separator) if row)
        positions = [str(position) for position in range(len(header))]
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(
                encoding=encoding.removesuffix("-sig"),
                column_names=positions,
                block_size=BLOCK,
                use_threads=use_threads,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()), null_values=MISSING, strings_can_be_null=True
            ),
        )
    except (ValueError, csv.Error) as error:  # Arrow's and Unicode's errors are ValueErrors
        raise ModelerError(
            f"{path} cannot be read as .csv in {encoding}: {_first_line(error)}; mend the file or its ending, "
            "or say its encoding with -p encoding=NAME"
        ) from None
    if uneven and use_threads:  # the rows have their numbers only without
        return _parse(path, separator, encoding, use_threads=False)
    if uneven:
        row = uneven[0]
        raise ModelerError(
            f"row {row.number} of {path}, {row.text[:60]!r}, has {row.actual_columns} values where the header has "
            f"{len(header)} names; uneven rows: {len(uneven)}. Put a text that holds the separator between double quotes, "
            "or mend the rows"
        )
    return header, table.slice(1)


def _trim(table: pa.Table) -> pa.Table:
    return pa.table([pc.utf8_trim_whitespace(column) for column in table.columns], names=table.column_names)


def _name_columns(path: Path, header: list[str], table: pa.Table) -> tuple[dict[str, pa.ChunkedArray], list[str]]:
    """The columns by name; those that only number the rows, or hold nothing, may lack one and are left out."""
    _refuse_repeated(path, [name for name in header if name.strip()])
    columns, notes = {}, []
    for position, (name, column) in enumerate(zip(header, table.columns), start=1):
        if name.strip():
            columns[name] = column
        elif column.null_count == len(column):
            notes.append(f"column {position} has no name and holds nothing; it is left out")
        elif position == 1 and pa.types.is_integer(_convert(column).type) and len(column.unique()) == len(column):
            notes.append("the first column has no name and numbers the rows; it is left out")
        else:
            raise ModelerError(f"column {position} of {path} has no name; give it one in the header")
    return columns, notes


def _refuse_repeated(path: Path, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ModelerError(f"column name {repeated[0]!r} stands in {path} more than once; rename or remove one")


def _convert(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers, numbers or booleans where every value is one, else the texts.

    A leading zero, as in a postal code, says that these are no numbers.
    """
    if column.null_count == len(column):
        return column.cast(pa.float64())
    if pc.all(pc.is_in(column, BOOLEANS)).as_py():
        return column.cast(pa.bool_())
    numbers = _cast_number(column)
    if numbers is None:
        numbers = _cast_number(pc.utf8_trim_whitespace(column))
    if numbers is None or (
        pa.types.is_integer(numbers.type) and pc.any(pc.match_substring_regex(column, CODE)).as_py()
    ):
        return column
    return numbers


def _cast_number(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    for kind in (pa.int64(), pa.float64()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _find_decimal(path: Path, raw: dict, columns: dict, told: str) -> str:
    """Point or comma, as the columns show that can be read in one way only."""
    if told in ("point", "comma"):
        return told
    if told != "auto":
        raise ModelerError(f"decimal {told!r} is neither point nor comma")
    shown = {"comma": [], "point": [], "either": []}
    for name, column in columns.items():
        if pa.types.is_string(column.type) and _holds(raw[name], ","):
            with_comma, with_point = _all_match(raw[name], WITH_COMMA), _all_match(raw[name], WITH_POINT)
            if with_comma or with_point:
                shown["either" if with_comma and with_point else "comma" if with_comma else "point"].append(name)
        elif pa.types.is_floating(column.type) and _holds(raw[name], ".") and not _all_match(raw[name], WITH_COMMA):
            shown["point"].append(name)
    if (shown["comma"] and shown["point"]) or (shown["either"] and not shown["comma"] and not shown["point"]):
        names = [names[0] for names in shown.values() if names]
        values = [f"{_longest(raw[name])!r} in {name!r}" for name in names]
        raise ModelerError(
            f"the decimals of {path} can be read in more than one way: {' and '.join(values)}; "
            "say it with -p decimal=comma or -p decimal=point"
        )
    return "comma" if shown["comma"] else "point"


def _convert_local(raw: pa.ChunkedArray, column: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray:
    """Numbers where every value is one once the thousands are closed up and the decimals stand after a point."""
    pattern, thousands = (WITH_COMMA, ".") if decimal == "comma" else (WITH_POINT, ",")
    is_text, is_float = pa.types.is_string(column.type), pa.types.is_floating(column.type)
    may_differ = (is_text and _holds(raw, ",")) or ((is_text or is_float) and decimal == "comma" and _holds(raw, "."))
    if not may_differ or not _all_match(raw, pattern):
        return column
    closed = pc.replace_substring(pc.utf8_trim_whitespace(raw), thousands, "")
    return _convert(pc.replace_substring(closed, ",", "."))


def _note_texts(columns: dict) -> list[str]:
    """A sentence for every column that would be numbers but for a few texts."""
    notes = []
    for name, column in columns.items():
        if not pa.types.is_string(column.type):
            continue
        present = column.drop_null()
        is_text = pc.invert(pc.match_substring_regex(pc.utf8_trim_whitespace(present), NUMBER))
        if 0 < (texts := pc.sum(is_text).as_py()) <= (1 - NOTED) * len(present):
            notes.append(
                f"column {name!r} is text because of {texts} of its {len(present)} values, such as "
                f"{present.filter(is_text)[0].as_py()!r}; empty these to use it as numbers"
            )
    return notes


def _holds(column: pa.ChunkedArray, text: str) -> bool:
    return bool(pc.any(pc.match_substring(column, text)).as_py())


def _all_match(column: pa.ChunkedArray, pattern: str) -> bool:
    return all(
        pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(part), pattern)).as_py()
        for part in (column.slice(0, 1000), column)  # the first rows are enough to say no, and quick
    )


def _longest(column: pa.ChunkedArray) -> str:
    present = column.drop_null()
    return present[pc.index(pc.utf8_length(present), pc.max(pc.utf8_length(present))).as_py()].as_py()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
