"""From the columns of a file to what the graph reads, and to what a caller would send of the rows that need a closer look."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeler.model.amounts import LARGEST, has_texts, read_value
from modeler.model.dates import DAY, EPOCH, MICROSECOND, read_date, write_date
from modeler.model.graph import Coded

FIRST, LAST = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")
TRUE, FALSE = ["true", "1"], ["false", "0"]


@dataclass(frozen=True)
class Texts:
    """How a file writes values as texts.

    `missing` are the texts of a missing value, `number` is the pattern of a number. `local` has, by name, the columns with
    decimal commas or separated thousands: the pattern of their numbers and what stands between thousands. `formatted` are the
    columns of amounts as the contract has them. `trimmed` says that a space follows each separator.
    """

    missing: Sequence[str] = ()
    number: str = ""
    local: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    formatted: Sequence[str] = ()
    trimmed: bool = False


@dataclass(frozen=True)
class Values:
    """A column of a batch: `vector` for `encode_columns`, `doubtful` is true in each row that the service has to judge, and
    `tell` gives the values at some positions as a caller would send them."""

    vector: Sequence | Coded
    doubtful: np.ndarray
    tell: Callable[[np.ndarray], list]


def read_values(column: pa.Array, feature: dict, texts: Texts | None) -> Values:
    """Read a column as its feature in the contract has it; `texts` is None where the column has a type of its own.

    The service accepts every value that is not in doubt, and `vector` holds what it would make of it. A NaN of a file is a
    missing value, as in a retrain.
    """
    if pa.types.is_null(column.type) or (texts and not fits(column.type, feature)):
        column = column.cast(pa.string())
    if texts and is_text(column.type):
        column = _clean_texts(column, texts)
    if feature["type"] == "number":
        vector, faulty, missing, tell = _read_numbers(column, texts, feature)
    elif feature["type"] == "boolean":
        vector, faulty, missing, tell = _read_booleans(column, texts, feature)
    elif feature["type"] == "category":
        vector, faulty, missing, tell = _read_categories(column)
    else:
        vector, faulty, missing, tell = _read_dates(column, feature)
    return Values(vector, faulty if feature["missing"] else faulty | missing, tell)


def is_text(kind: pa.DataType) -> bool:
    """Is it a type of texts, perhaps as positions in a dictionary?"""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def fits(kind: pa.DataType, feature: dict) -> bool:
    """Can a column of this type hold what a feature wants?"""
    inner, wanted = kind.value_type if pa.types.is_dictionary(kind) else kind, feature["type"]
    if pa.types.is_null(inner):
        return True
    if wanted == "number":
        return pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_decimal(inner) or is_text(inner)
    if wanted == "boolean":
        return pa.types.is_boolean(inner) or (has_texts(feature) and is_text(inner))
    if wanted == "date":
        return pa.types.is_date(inner) or pa.types.is_timestamp(inner) or is_text(inner)
    return is_text(inner) or (inner is not kind and pa.types.is_integer(inner))


def _clean_texts(column: pa.Array, texts: Texts) -> pa.Array:
    """The texts, null where they stand for a missing value."""
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _clean_texts(column.dictionary, texts))
    column = pc.utf8_trim_whitespace(column) if texts.trimmed else column
    return pc.if_else(pc.is_in(column, pa.array(texts.missing, pa.string())), None, column)


def _read_numbers(column: pa.Array, texts: Texts | None, feature: dict) -> tuple:
    """A text that is no number is for the service to judge, and so is every text of a file that knows numbers."""
    column, told, name = _decode(column), None, feature["name"]
    missing = _as_mask(column.is_null())
    if not is_text(column.type):
        values = _to_numpy(column.cast(pa.float64(), safe=False), np.nan)
        missing = np.isnan(values)
    else:
        told = _take_from(column)
        if has_texts(feature) and (not texts or name in texts.formatted):
            values = _read_formatted(column, feature)
        elif texts:
            values = _to_numpy(_cast_texts(column, texts, name), np.nan)
        else:
            values = np.full(len(column), np.nan)
    return values, ~missing & ~(np.abs(values) <= LARGEST), missing, _tell(values, told, float)


def _tell(values: np.ndarray, told: Callable | None, kind: type) -> Callable:
    """What a caller would send: a number or a boolean, or the text where it is none."""

    def tell(rows: np.ndarray) -> list:
        texts = told(rows) if told else [None] * len(rows)
        return [text if value != value else kind(value) for value, text in zip(values[rows].tolist(), texts)]

    return tell


def _read_formatted(column: pa.Array, feature: dict) -> np.ndarray:
    """The numbers or booleans of texts that are written as the contract's format has them, NaN for others."""
    coded, known = _encode(column), []
    for text in coded.dictionary.to_pylist():
        try:
            known.append(float(read_value(text, feature)))
        except (ValueError, TypeError):  # a dictionary may hold a null
            known.append(np.nan)
    return np.array([*known, np.nan])[_to_numpy(coded.indices, len(known))]


def _cast_texts(column: pa.Array, texts: Texts, name: str) -> pa.Array:
    """The numbers of texts, null for a text that is none."""
    column = pc.utf8_trim_whitespace(column)
    if name in texts.local:
        pattern, thousands = texts.local[name]
        closed = pc.replace_substring(pc.replace_substring(column, thousands, ""), ",", ".")
        column = pc.if_else(pc.match_substring_regex(column, pattern), closed, column)
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return pc.if_else(pc.match_substring_regex(column, texts.number), column, None).cast(pa.float64())


def _read_booleans(column: pa.Array, texts: Texts | None, feature: dict) -> tuple:
    column = _decode(column)
    missing = _as_mask(column.is_null())
    if not is_text(column.type):
        values = _to_numpy(column.cast(pa.uint8()).cast(pa.float64()), np.nan)
        return values, np.zeros(len(column), dtype=bool), missing, _tell(values, None, bool)
    values = _read_formatted(column, feature) if has_texts(feature) else np.full(len(column), np.nan)
    if texts:
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        for number, known in enumerate((FALSE, TRUE)):
            values[np.isnan(values) & _as_mask(pc.is_in(lower, pa.array(known)).fill_null(False))] = number
    return values, np.isnan(values) & ~missing, missing, _tell(values, _take_from(column), bool)


def _read_categories(column: pa.Array) -> tuple:
    coded = _encode(column)
    known = np.array([*coded.dictionary.cast(pa.string()).to_pylist(), None], dtype=object)
    vector = Coded(known, _to_numpy(coded.indices, len(known) - 1))
    missing = np.equal(known, None).astype(bool)[vector.positions]
    return vector, np.zeros(len(column), dtype=bool), missing, lambda rows: known[vector.positions[rows]].tolist()


def _read_dates(column: pa.Array, feature: dict) -> tuple:
    if is_text(column.type):
        return _read_date_texts(column, feature)
    counted = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    moments = _to_numpy(counted, np.iinfo(np.int64).min).view("datetime64[us]")
    missing = np.isnat(moments)
    faulty = ~missing & ~((moments >= FIRST) & (moments <= LAST))
    if not feature["time"]:
        faulty |= ~missing & (moments.astype("int64") % DAY != 0)
    return moments, faulty, missing, lambda rows: [_write_moment(moment) for moment in moments[rows]]


def _read_date_texts(column: pa.Array, feature: dict) -> tuple:
    coded, moments = _encode(column), []
    for text in coded.dictionary.to_pylist():
        try:
            moments.append(read_date(text, feature))
        except (ValueError, TypeError):  # a dictionary may hold a null
            moments.append("NaT")
    known = np.array([np.datetime64(moment, "us") for moment in [*moments, "NaT"]])
    values = known[_to_numpy(coded.indices, len(moments))]
    missing = np.array([text is None for text in [*coded.dictionary.to_pylist(), None]])[
        _to_numpy(coded.indices, len(moments))
    ]
    return values, np.isnat(values) & ~missing, missing, _take_from(column)


def _write_moment(moment: np.datetime64) -> str | None:
    if np.isnat(moment):
        return None
    if not FIRST <= moment <= LAST:
        return str(moment)
    microseconds = int(moment.astype("int64"))
    return write_date(EPOCH + microseconds * MICROSECOND, microseconds % DAY != 0)


def _decode(column: pa.Array) -> pa.Array:
    """The values themselves, where a column holds positions in a dictionary; texts of the one usual type."""
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return column.cast(pa.string()) if is_text(column.type) else column


def _encode(column: pa.Array) -> pa.DictionaryArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _take_from(column: pa.Array) -> Callable[[np.ndarray], list]:
    return lambda rows: column.take(pa.array(rows)).to_pylist()


def _as_mask(column: pa.Array) -> np.ndarray:
    return _to_numpy(column.cast(pa.uint8()), 0).astype(bool)


def _to_numpy(column: pa.Array, missing: float) -> np.ndarray:
    """Numbers, with `missing` for null. Arrow's `to_numpy` imports pandas, which takes half a second of a worker's start."""
    if not len(column):
        return np.zeros(0, column.type.to_pandas_dtype())
    bits, content = column.buffers()
    values = np.from_dlpack(pa.Array.from_buffers(column.type, len(column), [None, content], offset=column.offset))
    if not column.null_count:
        return values
    present = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[column.offset :][: len(column)]
    return np.where(present, values, missing)
