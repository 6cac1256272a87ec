"""The format of a .csv file: encoding, separator and decimals, each given by a parameter or detected."""

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from modeler import ModelerError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Numbers with a decimal comma, and points or nothing between their thousands; and the reverse.
WITH_COMMA = r"^[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d+)?$"
WITH_POINT = r"^[+-]?([1-9]\d{0,2}(,\d{3})+|\d+)(\.\d+)?$"
FOREIGN = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a zip archive or an Excel workbook", b"\x1f\x8b": "a gzip archive",
           b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"%PDF": "a PDF", b"SQLite": "an SQLite database"}  # fmt: skip


@dataclass(frozen=True)
class CsvFormat:
    """The format of a .csv file, "auto" detects it, and the types of its columns that a person settles.

    `separator` is comma, semicolon, tab or pipe, `decimal` is point or comma, `encoding` a name that Python knows. `columns`,
    a text for `settled.read_types`, counts for Parquet and built-in data too.
    """

    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    columns: str = ""

    @classmethod
    def from_parameters(cls, told: Mapping) -> "CsvFormat":
        """Take the format from a notebook's parameters, the default where they have none."""
        return cls(*(told.get(field.name, field.default) for field in fields(cls)))


def refuse_foreign(path: Path, head: bytes) -> None:
    kind = next((kind for magic, kind in FOREIGN.items() if head.startswith(magic)), None)
    if not kind and b"\0" in head and not head.startswith(tuple(BYTE_ORDER_MARKS)):
        kind = "a binary file"
    if kind:
        raise ModelerError(f"{path} is {kind}, not a .csv file; export it as .csv or mend its ending")


def find_encoding(path: Path, head: bytes, told: str) -> tuple[str, list[str]]:
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if told != "auto":
        try:
            known = codecs.lookup(told).name
        except LookupError:
            raise ModelerError(f"encoding {told!r} is none that Python knows; try utf-8, cp1252 or latin-1") from None
        return marked if marked and marked.startswith(known) else told, [f"encoding {told}"]
    if marked:
        return marked, [] if marked == "utf-8-sig" else [f"encoding {marked}"]
    try:
        with open(path, encoding="utf-8") as file:
            while file.read(1 << 24):
                pass
        return "utf-8", []
    except UnicodeDecodeError:
        note = (
            "encoding cp1252 (Western Windows and Latin-1; the file is not UTF-8, choose another with -p encoding=NAME)"
        )
        return "cp1252", [note]


def find_separator(path: Path, sample: str, told: str, cut: bool) -> str:
    """The separator that splits the header into several names, and the sample's rows into as many values."""
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


def find_decimal(path: Path, raw: Mapping, columns: Mapping, told: str, amounts: Mapping) -> str:
    """Point or comma, decided by the columns that only one of them fits; `amounts` are those of `find_amounts`."""
    if told in ("point", "comma"):
        return told
    if told != "auto":
        raise ModelerError(f"decimal {told!r} is neither point nor comma")
    shown = {"comma": [], "point": [], "either": []}
    for name, found in amounts.items():
        for decimal in ["either"] if len(found.decimals) > 1 else found.decimals:
            shown[decimal].append(name)
    for name, column in columns.items():
        if pa.types.is_string(column.type) and holds_text(raw[name], ","):
            with_comma, with_point = all_match(raw[name], WITH_COMMA), all_match(raw[name], WITH_POINT)
            if with_comma or with_point:
                shown["either" if with_comma and with_point else "comma" if with_comma else "point"].append(name)
        elif pa.types.is_floating(column.type) and holds_text(raw[name], ".") and not all_match(raw[name], WITH_COMMA):
            shown["point"].append(name)
    if (shown["comma"] and shown["point"]) or (shown["either"] and not shown["comma"] and not shown["point"]):
        names = [names[0] for names in shown.values() if names]
        values = [f"{max(raw[name].drop_null().to_pylist(), key=len)[:60]!r} in {name!r}" for name in names]
        raise ModelerError(
            f"the decimals of {path} can be read in more than one way: {' and '.join(values)}; "
            "say it with -p decimal=comma or -p decimal=point"
        )
    return "comma" if shown["comma"] else "point"


def is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def holds_text(column: pa.ChunkedArray, text: str) -> bool:
    return bool(pc.any(pc.match_substring(column, text)).as_py())


def all_match(column: pa.ChunkedArray, pattern: str) -> bool:
    return all(
        pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(part), pattern)).as_py()
        for part in (column.slice(0, 1000), column)  # the first rows often say no, and are quick
    )
