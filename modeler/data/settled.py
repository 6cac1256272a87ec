"""Columns whose type a person settles by hand: `-p columns="city=category,day=date:%d/%m/%Y,note=drop"`."""

import csv
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from modeler import ModelerError, did_you_mean, list_names

TYPES = ("number", "boolean", "category", "date", "drop")


def read_types(told: str, names: Sequence[str]) -> dict[str, str]:
    """The type of each column that a text NAME=TYPE,NAME=TYPE settles; a date's may end in its format, as date:%d/%m/%Y.

    A part that holds a comma stands in double quotes. A ModelerError: no such column, no such type, or one column twice.
    """
    types = {}
    for part in next(csv.reader([told], skipinitialspace=True), []):
        name, equals, kind = part.rpartition("=")
        word, colon, form = kind.partition(":")
        if name not in names:
            near = did_you_mean(name, names) if equals else ", and a part is given as NAME=TYPE"
            raise ModelerError(
                f"columns names {name or part!r}, which is no column{near}; the columns are {list_names(names)}"
            )
        if word not in TYPES or (colon and (word != "date" or not form)):
            known = ", ".join(TYPES)
            raise ModelerError(
                f"columns makes {name!r} a {kind!r}; a type is one of {known}, or date:FORMAT such as date:%d/%m/%Y"
            )
        if form and (
            "%d" not in form
            or not {"%Y", "%y"} & {form[i : i + 2] for i in range(len(form))}
            or form.startswith("%Y-%d")
        ):
            raise ModelerError(
                f"columns reads {name!r} as {form!r}; a format has %d, %m or %b, and %Y, such as date:%d/%m/%Y"
            )
        if name in types:
            raise ModelerError(f"columns settles {name!r} twice; name it once")
        types[name] = kind
    return types


def settle_column(name: str, kind: str, raw: pa.ChunkedArray, found: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as the type it was told to have; `raw` is its texts, `found` what it was taken for. Dates are not settled here.

    A ModelerError names the first value that is of another type, with its row.
    """
    if kind == "category":
        return raw
    if kind == "number":
        if pa.types.is_integer(found.type) or pa.types.is_floating(found.type):
            return found
        return _cast(name, "number", raw, pa.float64())
    if kind == "boolean" and not pa.types.is_boolean(found.type):
        return _cast(name, "boolean", raw, pa.bool_())
    return found


def _cast(name: str, kind: str, raw: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(raw)
    try:
        return trimmed.cast(to)
    except pa.ArrowInvalid:
        for row, value in enumerate(trimmed, start=1):
            try:
                value.cast(to)
            except pa.ArrowInvalid:
                break
        raise ModelerError(
            f"columns makes {name!r} a {kind}, and {value.as_py()!r} in row {row} is none; mend such values or leave them empty"
        ) from None
