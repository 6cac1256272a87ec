"""Columns of texts that are dates: in which format, and what keeps others from being dates."""

import re
from collections.abc import Iterable, Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from modeler import ModelerError
from modeler.model.dates import ISO, count_column, name_parts

DAYS = (ISO, "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y",
        "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y", "%B %d, %Y")  # fmt: skip
TIMES = ("", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
ZONE = r"(Z|[+-]\d\d:?\d\d)$"
PIECES = {"Y": r"\d{4}", "m": r"\d{1,2}", "d": r"\d{1,2}", "y": r"\d{2}", "b": "[A-Za-z]{3}", "B": "[A-Za-z]{3,9}", "H": r"\d{1,2}", "M": r"\d{2}",
          "S": r"\d{2}", "f": r"\d{1,9}", "I": r"\d{1,2}", "p": "[AaPp][Mm]", "z": ZONE[:-1]}  # fmt: skip
FIRST = pd.Timestamp("0001-01-01")
HEAD = 1000  # different texts that are read first; most columns of texts end here
NEARLY = 0.9  # share of dates from which a note tells what keeps a column from being one


def convert_dates(
    columns: Mapping[str, pa.ChunkedArray], told: Mapping[str, str]
) -> tuple[dict, dict[str, str], list[str]]:
    """Convert the columns of texts that are dates, every one in one format.

    Returns the columns, the format by name of those that were converted, and notes. `told` has the format that a person gave
    by name, or "" where it is to be found; a ModelerError says what keeps such a column from being a date. Where two formats
    fit, another column of the file decides, as day and month stand in the same order in all; otherwise a ModelerError asks.
    """
    texts = {name: column for name, column in columns.items() if not pa.types.is_temporal(column.type)}
    found = {name: _find_formats(name, texts[name], told.get(name)) for name in texts}
    certain = {_order(form) for forms, _ in found.values() if len(forms) == 1 for form in forms} - {None}
    converted, formats, notes = dict(columns), {}, []
    for name, (forms, note) in found.items():
        if name in told and not forms:
            raise ModelerError(note or f"column {name!r} holds {_first(texts[name])!r}, which is no date that we know; give its format, "
                               f"such as -p columns={name + '=date:%d/%m/%Y'!r}")  # fmt: skip
        notes += [note] if note else []
        if forms:
            form = _choose(name, forms, certain, texts[name])
            converted[name], formats[name] = forms[form], form
    if formats:
        notes.append("dates: " + ", ".join(f"{name!r} as {form}" for name, form in formats.items()))
    return converted, formats, notes


def spread_dates(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The frame with the numbers a model sees in place of each date, and the name of the date of each of them."""
    parts, owners = {}, {}
    for name, column in frame.items():
        if column.dtype.kind != "M":
            parts[name], owners[name] = column, name
            continue
        feature = {"name": name, "time": has_time(column)}
        for part, values in zip(name_parts(feature), count_column(column, feature).T):
            parts[part], owners[part] = pd.Series(values, frame.index, dtype="float64"), name
    return pd.DataFrame(parts), owners


def has_time(column: pd.Series) -> bool:
    """Does any of these moments stand at another time than midnight?"""
    present = column.dropna()
    return bool((present != present.dt.normalize()).any())


def _find_formats(
    name: str, column: pa.ChunkedArray, told: str | None
) -> tuple[dict[str, pa.ChunkedArray], str | None]:
    """The column converted, by each format that all of its texts have; and what keeps it from being a date, if that is little."""
    first = _first(column)
    if told is None and (first is None or not re.search(r"\d", first)):
        return {}, None
    candidates = (
        [told] if told else [form for form in _list_formats() if re.fullmatch(_write_pattern(form), first or "")]
    )
    if not candidates:
        return {}, None
    coded = column.dictionary_encode().combine_chunks()
    texts = coded.dictionary.to_pandas()
    fitting, note = {}, None
    for form in candidates:
        if not told and _read(texts[:HEAD], form).isna().mean() > 0.5:
            continue
        dates = _read(texts, form)
        if dates.isna().any():
            is_near = told or dates.notna()[coded.indices.drop_null()].mean() >= NEARLY
            note = note or (_tell_fault(name, column, texts[dates.isna()].iloc[0], form) if is_near else None)
        elif not any(dates.equals(other) for other in fitting.values()):
            fitting[form] = dates
    made = {form: pa.chunked_array([pa.array(dates).take(coded.indices)]) for form, dates in fitting.items()}
    return made, None if made else note


def _list_formats() -> Iterable[str]:
    for day in DAYS:
        for time in TIMES:
            for between in [" ", "T", " at "][: 2 if day == ISO else 1] if time else [""]:
                yield from [day + between + time] + ([day + between + time + "%z"] if time and day == ISO else [])


def _write_pattern(form: str) -> str:
    return re.sub("%([a-zA-Z])", lambda found: PIECES[found[1]], re.escape(form).replace(r"\%", "%"))


def _read(texts: pd.Series, form: str) -> pd.Series:
    """Moments in UTC, NaT for a text that is none in this format."""
    read = pd.to_datetime(texts, format=form, errors="coerce", utc="%z" in form)
    read = (read.dt.tz_localize(None) if "%z" in form else read).dt.as_unit("us")
    return read.where(read >= FIRST)  # pandas takes the year 0


def _tell_fault(name: str, column: pa.ChunkedArray, text: str, form: str) -> str:
    row, rows = pc.index(column, text).as_py() + 1, len(column) - column.null_count
    return (
        f"column {name!r} is no date because of {text!r} in row {row} of its {rows}, where others are as {form}; "
        "mend or empty such values to use it as a date"
    )


def _order(form: str) -> bool | None:
    """Does the day stand before the month, as numbers; None where the year comes first or the month has a name."""
    return None if form.startswith("%Y") or "%m" not in form else form.index("%d") < form.index("%m")


def _choose(name: str, forms: dict, certain: set[bool], column: pa.ChunkedArray) -> str:
    if len(forms) > 1 and len(certain) == 1:
        forms = {form: None for form in forms if _order(form) in certain} or forms
    if len(forms) > 1:
        ways = [f"-p columns={name + '=date:' + form!r}" for form in forms]
        raise ModelerError(
            f"column {name!r} can be read in {len(forms)} ways, such as {_first(column)!r}; say {' or '.join(ways)}"
        )
    return next(iter(forms))


def _first(column: pa.ChunkedArray) -> str | None:
    return next((value.as_py() for chunk in column.chunks for value in chunk if value.is_valid), None)
