"""Reading a .csv or .parquet file: columns in their own types, or one sentence about what is wrong."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from modeler import ModelerError, first_line
from modeler.data.amounts import convert_texts, find_amounts
from modeler.data.dates import convert_dates
from modeler.data.dialect import (
    SEPARATORS,
    WITH_COMMA,
    WITH_POINT,
    CsvFormat,
    all_match,
    find_decimal,
    find_encoding,
    find_separator,
    is_text,
    refuse_foreign,
)
from modeler.data.limits import (
    HEADER,
    bound_memory,
    check_memory,
    check_names,
    count_bytes,
    explain_csv,
    refuse_repeated,
)
from modeler.data.settled import read_types, settle_column

SAMPLE = 1 << 18  # bytes that show the separator and the encoding
BLOCK = 1 << 25  # bytes; the longest row a file may have
NOTED = 0.9  # share of numbers above which a note names the texts among them
# The missing values of pandas.read_csv.
MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
           "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]  # fmt: skip
BOOLEANS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE", None])
CODE = r"^\s*[+-]?0[0-9xX]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class Content:
    """What a file holds: its columns in their own types, what was assumed of them, the formats by name of those that it has as
    texts (dates, amounts, yes and no), and the types by name that a person settled."""

    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    formats: dict[str, str | list[str]] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)


def read_csv(path: Path, told: CsvFormat, target: str = "") -> Content:
    """Read a whole .csv file as texts, then convert each column by all its values; `target` keeps the texts of its classes.

    A ModelerError: the file is not what its ending says, does not fit into memory, or can be read in two ways; then the message
    names the parameter that decides.
    """
    check_memory(path, path.stat().st_size)
    encoding, assumed, separator = find_format(path, told)
    notes = [] if separator == "comma" else [f"separator {separator}"]
    header, table = _parse(path, SEPARATORS[separator], encoding)
    if len(header) > 1 and all(name.startswith(" ") for name in header[1:]):
        header = [name.strip() for name in header]
        table = pa.table([pc.utf8_trim_whitespace(column) for column in table.columns], names=table.column_names)
        notes.append("the space after each separator left out")
    raw, left_out = _name_columns(path, header, table)
    types = read_types(told.columns, list(raw))
    columns = {name: _convert(column) for name, column in raw.items()}
    free = {name: column for name, column in raw.items() if types.get(name, "number") == "number"}
    amounts = find_amounts(columns, types, target)
    decimal = find_decimal(path, free, {name: columns[name] for name in free}, told.decimal, amounts)
    if decimal == "comma":
        notes.append("decimal comma")
    columns = {name: _convert_local(raw[name], column, decimal) for name, column in columns.items()}
    local = {name: amounts[name].formats[decimal] for name in amounts if not is_text(columns[name])}
    if notes := notes + assumed:
        notes = [f"read with {', '.join(notes)}"]
    numbers, formats, said = convert_texts(columns, amounts, decimal, types, target)
    settled, dates, more = _settle_columns(columns | numbers, raw.__getitem__, types, amounts)
    columns |= numbers | settled
    frame = pa.table(list(columns.values()), names=list(columns)).to_pandas()
    return Content(frame, notes + left_out + said + more, local | formats | dates, types)


def find_format(path: Path, told: CsvFormat) -> tuple[str, list[str], str]:
    """The encoding of a .csv file, what was assumed of it, and the name of its separator, by the file's beginning.

    A ModelerError: it is no .csv file, is empty, has too many columns, or can be read in two ways. The longest row may have
    `BLOCK` bytes from now on.
    """
    with open(path, "rb") as file:
        head = file.read(SAMPLE)
    refuse_foreign(path, head)
    encoding, assumed = find_encoding(path, head, told.encoding)
    sample = head.decode(encoding, "ignore")
    if not sample.strip():
        raise ModelerError(f"{path} is empty; give a file with a header and at least a few dozen rows")
    csv.field_size_limit(BLOCK)
    separator = find_separator(path, sample, told.separator, len(head) == SAMPLE)
    check_names(path, _read_header(path, encoding, separator))
    return encoding, assumed, separator


def _read_header(path: Path, encoding: str, separator: str) -> list[str]:
    """The names that stand in the first `HEADER` characters."""
    with open(path, encoding=encoding, errors="replace", newline="") as file:
        lines = csv.reader(io.StringIO(file.read(HEADER), newline=""), delimiter=SEPARATORS[separator])
    return next(filter(None, lines))


def read_parquet(path: Path, told: CsvFormat, target: str = "") -> Content:
    """Read a .parquet file like `read_csv`."""
    with explain_parquet(path):
        described = pa.parquet.read_metadata(path)
        check_memory(path, 8 * described.num_rows * described.num_columns)
        refuse_types(described.schema.to_arrow_schema(), path)
        with bound_memory(path):
            table = pa.parquet.read_table(path)
    check_memory(path, count_bytes(table))  # of texts, that the file may hold once for very many rows
    for position, part in enumerate(table.schema):
        if pa.types.is_decimal(part.type):
            table = table.set_column(position, part.name, table[position].cast(pa.float64()))
    frame = table.to_pandas(date_as_object=False).reset_index(drop=True)
    return settle_frame(frame.set_axis(frame.columns.map(str), axis=1), told, table, path, target)


@contextmanager
def explain_parquet(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises about a file into a ModelerError."""
    try:
        yield
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        with open(path, "rb") as file:
            begins = file.read(20)
        raise ModelerError(
            f"{path} cannot be read as Parquet: {first_line(error)}; it begins with {begins!r}; mend the file or its ending"
        ) from None


def refuse_types(schema: pa.Schema, path: Path) -> None:
    """Raise a ModelerError if names of columns stand twice or are none, or values are none that a model reads."""
    check_names(path, schema.names)
    refuse_repeated(path, schema.names)
    for part in schema:
        if pa.types.is_nested(part.type) or pa.types.is_binary(part.type) or pa.types.is_large_binary(part.type):
            raise ModelerError(
                f"column {part.name!r} of {path} holds values of the type {part.type}; "
                "split it into columns of numbers, texts or booleans, or leave it out"
            )


def settle_frame(
    frame: pd.DataFrame, told: CsvFormat, table: pa.Table | None = None, path: Path | str = "the data", target: str = ""
) -> Content:
    """Settle the columns of a frame as those of a file; `table` is what the frame was made of, from `path`."""
    if not told.columns and table is None:
        return Content(frame)
    table = pa.Table.from_pandas(frame, preserve_index=False) if table is None else table
    types, columns = read_types(told.columns, list(frame)), {name: table[name] for name in frame}
    amounts = find_amounts(columns, types, target)
    decimal = find_decimal(path, columns, {}, told.decimal, amounts)
    numbers, formats, said = convert_texts(columns, amounts, decimal, types, target)
    settled, dates, more = _settle_columns(
        columns | numbers, lambda name: columns[name].cast(pa.string()), types, amounts
    )
    changed = {name: column for name, column in (numbers | settled).items() if column is not columns[name]}
    made = frame.assign(**{name: column.to_pandas() for name, column in changed.items()})
    notes = ["read with decimal comma"] if decimal == "comma" and numbers else []
    return Content(made, notes + said + more, formats | dates, types)


def _settle_columns(
    columns: dict, read_texts: Callable, types: dict[str, str], amounts: dict
) -> tuple[dict, dict[str, str], list[str]]:
    """The columns whose types were told and those of texts, as what they are; the formats of the dates among them, and notes.

    `read_texts` gives a column as texts, by its name. The texts in `amounts` have their notes.
    """
    told = {name: kind.partition(":")[2] for name, kind in types.items() if kind.startswith("date")}
    settled = {name: settle_column(name, kind, read_texts(name), columns[name]) for name, kind in types.items()}
    settled |= {name: read_texts(name) for name in told if not pa.types.is_temporal(columns[name].type)}
    settled |= {name: column for name, column in columns.items() if name not in types and is_text(column)}
    free = {name: column for name, column in settled.items() if name not in types or name in told}
    dated, formats, notes = convert_dates(free, told)
    notes += _note_texts({name: column for name, column in free.items() if name not in formats | amounts})
    return settled | dated, formats, notes


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
        read = pa.csv.ReadOptions(use_threads=use_threads, block_size=BLOCK, column_names=positions)
        read.encoding = encoding.removesuffix("-sig")
        parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=remember)
        texts = dict.fromkeys(positions, pa.string())
        convert = pa.csv.ConvertOptions(column_types=texts, null_values=MISSING, strings_can_be_null=True)
        table = pa.csv.read_csv(path, read, parse, convert)
    except (ValueError, csv.Error) as error:  # Arrow's and Unicode's errors are ValueErrors
        raise ModelerError(
            f"{path} cannot be read as .csv in {encoding}: {explain_csv(error, BLOCK)}; mend the file or its ending, "
            "or say its encoding with -p encoding=NAME"
        ) from None
    if uneven and use_threads:  # Arrow numbers the rows only without threads
        return _parse(path, separator, encoding, use_threads=False)
    if uneven:
        row = uneven[0]
        raise ModelerError(
            f"row {row.number} of {path}, {row.text[:60]!r}, has {row.actual_columns} values where the header has "
            f"{len(header)} names; uneven rows: {len(uneven)}. Put double quotes around texts that contain the separator, "
            "or mend the rows"
        )
    return header, table.slice(1)


def _name_columns(path: Path, header: list[str], table: pa.Table) -> tuple[dict[str, pa.ChunkedArray], list[str]]:
    """The columns by name, and notes; a column without a name is left out if it is empty or numbers the rows."""
    refuse_repeated(path, [name for name in header if name.strip()])
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


def _convert(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column to whole numbers, numbers or booleans if every value is one.

    Whole numbers with a leading zero, such as postal codes, stay texts.
    """
    if column.null_count == len(column):
        return column.cast(pa.float64())
    if pc.all(pc.is_in(column, BOOLEANS)).as_py():
        return column.cast(pa.bool_())
    trimmed = pc.utf8_trim_whitespace(column)
    with suppress(pa.ArrowInvalid):
        whole = trimmed.cast(pa.int64())
        return column if pc.any(pc.match_substring_regex(column, CODE)).as_py() else whole
    with suppress(pa.ArrowInvalid):
        return trimmed.cast(pa.float64())
    return column


def _convert_local(raw: pa.ChunkedArray, column: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray:
    """Convert a column whose values are all numbers with this decimal, perhaps with separated thousands."""
    pattern, thousands = (WITH_COMMA, ".") if decimal == "comma" else (WITH_POINT, ",")
    may_change = pa.types.is_string(column.type) or (decimal == "comma" and pa.types.is_floating(column.type))
    if not may_change or not all_match(raw, pattern):
        return column
    closed = pc.replace_substring(pc.utf8_trim_whitespace(raw), thousands, "")
    return _convert(pc.replace_substring(closed, ",", "."))


def _note_texts(columns: dict) -> list[str]:
    """One sentence for each column that only a few texts keep from being numbers."""
    notes = []
    for name, column in columns.items():
        if not is_text(column):
            continue
        present = column.drop_null()
        is_other = pc.invert(pc.match_substring_regex(pc.utf8_trim_whitespace(present), NUMBER))
        if 0 < (texts := pc.sum(is_other).as_py()) <= (1 - NOTED) * len(present):
            notes.append(
                f"column {name!r} is text because of {texts} of its {len(present)} values, such as "
                f"{present.filter(is_other)[0].as_py()[:60]!r}; empty these to use it as numbers"
            )
    return notes
