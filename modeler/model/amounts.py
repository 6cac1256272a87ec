"""Amounts such as $1,234.50, and yes or no: read from the texts that callers send, the same way at every hop."""

import re
from collections.abc import Sequence
from functools import lru_cache

LARGEST = 3.4028234663852886e38  # the greatest number a float32 holds
LONGEST = 60  # characters of a text that may be an amount
SHORT = 38  # characters of an amount that a float32 holds, whatever its digits
SPACES = " \u00a0\u2009\u202f"  # plain, no-break, thin, narrow no-break
THOUSANDS = {".": f",'\u2019{SPACES}", ",": f".'\u2019{SPACES}"}  # by decimal; all of them are read
AROUND = f"{SPACES}()+-\u2212"  # what may stand around the digits, besides the unit
NEGATIVE = "-(\u2212"  # one of these before the digits
FORM = re.compile(r"(\D*)1(\D)234(\D)5(.*)")  # what stands before, thousands, decimal, what stands after
_ANY, _SIGN = f"[{SPACES}]*", "[-+\u2212]"


def has_texts(feature: dict) -> bool:
    """May a caller send this feature, a number or a boolean, as a text too?"""
    return "format" in feature and feature["type"] in ("number", "boolean")


def split_format(form: str) -> tuple[str, str]:
    """The unit and the decimal of a format, which is how 1,234.5 would be written: `$1,234.5` gives `$` and a point."""
    before, _, decimal, after = FORM.fullmatch(form).groups()
    return (before + after).strip(SPACES), decimal


def write_pattern(unit: str, decimal: str) -> str:
    """A regular expression for whole texts, in the words that Python, RE2 and JSON Schema share.

    The unit stands before or after the number; a unit in words may end in s or not, as in 1 day and 2 days.
    """
    first = "[1-9][0-9]{0,2}"
    grouped = [f"{first}(?:{mark}[0-9]{{3}})+" for mark in (f"[{THOUSANDS[decimal][0]}]", "['\u2019]", f"[{SPACES}]")]
    if decimal == ".":
        grouped.append("[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")  # as in India: 12,34,567
    number = f"(?:{'|'.join(grouped)}|[0-9]+)(?:[{decimal}][0-9]+)?"
    if not unit:
        return rf"^{_ANY}(?:{_SIGN}?{number}|\({_ANY}{number}{_ANY}\)){_ANY}$"
    unit = _match_unit(unit)
    plain = f"(?:{unit}{_ANY}{number}|{number}{_ANY}{unit})"
    signed = f"(?:{_SIGN}{_ANY})?{plain}|{unit}{_ANY}{_SIGN}{_ANY}{number}"
    closed = rf"\({_ANY}{plain}{_ANY}\)|{unit}{_ANY}\({number}\)|\({number}\){_ANY}{unit}"
    return f"^{_ANY}(?:{signed}|{closed}){_ANY}$"


def list_spellings(unit: str) -> list[str]:
    """The unit as it may be spelled, the longest first."""
    stem = re.sub("(?<=[a-z]{3})s$", "", unit)
    return [stem + "s", stem] if re.search("[a-z]{3}$", stem) else [unit]


def read_value(value, feature: dict):
    """A value that a caller sends for a feature that `has_texts`: of a text its number or boolean, all else as it is.

    A ValueError says what is wrong with a text, as the end of "'12 lb' …".
    """
    if not isinstance(value, str):
        return value
    return (
        _read_flag(value, feature["format"]) if feature["type"] == "boolean" else _read_amount(value, feature["format"])
    )


def read_column(values: Sequence, feature: dict | None) -> Sequence:
    """The values of a column as `read_value` reads them; an array of numbers, or a column without feature, as it is."""
    if feature is None or getattr(getattr(values, "dtype", None), "kind", "O") in "ifb":
        return values
    return [read_value(value, feature) for value in values]


def show_texts(feature: dict) -> str:
    """The texts that a caller may send for a feature that `has_texts`, as the end of "a number" or "true or false"."""
    if feature["type"] == "boolean":
        return ", " + " or ".join(map(repr, feature["format"]))
    return f", or a text such as {write_example(feature)!r}"


def describe_texts(feature: dict) -> dict:
    """JSON Schema of the values of a feature that `has_texts`: of its texts those written as the data have them."""
    form = {"type": [feature["type"], "string"]}
    if feature["type"] == "boolean":
        return form | {"enum": [False, True, *feature["format"]]}
    before, thousands, decimal, after = map(_escape, FORM.fullmatch(feature["format"]).groups())
    digits = f"([1-9][0-9]{{0,2}}({thousands}[0-9]{{3}})+|[0-9]+)({decimal}[0-9]+)?"
    return form | {"pattern": f"^-?{before}{digits}{after}$", "maxLength": SHORT}


def write_example(feature: dict) -> str:
    """An example of the texts that a caller may send: 1234.5 as $1,234.5 or 1.234,5 €, true as yes."""
    if feature["type"] == "boolean":
        return feature["format"][1]
    number = feature["min"] if feature["example"] is None else feature["example"]
    before, thousands, decimal, after = FORM.fullmatch(feature["format"]).groups()
    digits = f"{abs(number):,f}".rstrip("0").rstrip(".").translate(str.maketrans({",": thousands, ".": decimal}))
    return f"{'-' * (number < 0)}{before}{digits}{after}"


def fold_flag(text: str) -> str:
    """A text that may be yes or no, in the one spelling that is compared."""
    return text.strip().casefold()


def _match_unit(unit: str) -> str:
    *longer, shortest = list_spellings(unit)
    return _escape(shortest) + ("s?" if longer else "")


def _escape(text: str) -> str:
    return re.sub(r"([\\^$.|?*+()[\]{}/])", r"\\\1", text)


def _read_flag(text: str, pair: Sequence[str]) -> bool:
    folded = fold_flag(text)
    if folded not in (both := [fold_flag(known) for known in pair]):
        raise ValueError("is neither")
    return folded == both[1]


@lru_cache(maxsize=1000)
def _prepare(form: str) -> tuple[re.Pattern, list[str], str, dict]:
    unit, decimal = split_format(form)
    cleaned = str.maketrans({decimal: "."} | dict.fromkeys(THOUSANDS[decimal]))
    return re.compile(write_pattern(unit, decimal)), list_spellings(unit), unit, cleaned


def _read_amount(text: str, form: str) -> float:
    pattern, spellings, unit, cleaned = _prepare(form)
    if len(text) > LONGEST or not pattern.fullmatch(text):
        raise ValueError("is no such amount")
    for spelling in spellings if unit else ():
        text = text.replace(spelling, "")
    digits = text.strip(AROUND)
    number = float(digits.translate(cleaned))
    if number > LARGEST:
        raise ValueError("is beyond what a float32 holds")
    return -number if any(sign in text[: text.index(digits[0])] for sign in NEGATIVE) else number
