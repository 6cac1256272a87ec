"""Columns of texts that are amounts or yes and no: in which form, and what keeps others from being numbers."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from modeler import ModelerError
from modeler.data.columns import MOST_CLASSES
from modeler.data.dialect import is_text
from modeler.model.amounts import (
    AROUND,
    LARGEST,
    LONGEST,
    NEGATIVE,
    SPACES,
    THOUSANDS,
    fold_flag,
    list_spellings,
    split_format,
    write_pattern,
)

HEAD = 1000  # texts that are read first; most columns of texts end here
NEARLY = 0.9  # share of amounts from which a note tells what keeps a column from being numbers
PAIRS = (("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("0", "1"))
DECIMALS = {"point": ".", "comma": ","}
# Units that may touch the number, since no house number, model or rank ends so: a sign or code of a currency, percent,
# degrees, and measures. Any other word needs a space, so 12A, 3rd, 4x4 and 5G stay texts. Only a sign or code may stand
# before the number.
SIGN = r"[A-Z]{0,3}[$¢£¤¥฿₠-⃀]"
CODE = (
    "USD|EUR|GBP|JPY|CHF|CNY|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|ISK|TRY|RUB|UAH|INR|KRW|TWD|HKD|SGD|THB|IDR|"
    r"MYR|VND|ILS|SAR|AED|EGP|ZAR|NGN|KES|BRL|MXN|ARS|CLP|Rs\.?|Fr\.|kr\.?|Kč|zł"
)
MEASURE = (
    "[%‰°]|°[CFK]|[kmcdµμnh]?[gmlLs]|[kmdc]?m[23²³]|mi|ft|in|yd|lbs?|oz|km/h|kmh|kph|mph|m/s|h|min|hrs?|sec|[kMG]?Wh?|"
    "[km]?V|m?Ah|[kMG]?Hz|[kMGT]B|px|pt|rpm|bar|psi|[hkM]?Pa|Nm|hp|PS|[kM]J|k?cal|dB|bpm|mmHg|mpg"
)
WORD = r"(?:[^\W\d_]|[°%‰])[\w°%‰/²³·.^*-]{0,14}|(?:sq|cu)\.? (?:ft|in|m|mi|yd)|fl\.? oz|per cent"
KNOWN = re.compile(f"{SIGN}|{CODE}|{MEASURE}")
LOOSE = re.compile(
    rf"[{SPACES}]*[-+\u2212(]?[{SPACES}]*(?P<before>[^0-9(+\u2212{SPACES}-]*)(?P<left>[{SPACES}]*)"
    rf"[-+\u2212(]?[{SPACES}]*"
    rf"(?P<digits>[0-9](?:[0-9.,'\u2019{SPACES}]*[0-9])?)\)?(?P<right>[{SPACES}]*)(?P<after>.*?)[{SPACES})]*"
)


@dataclass(frozen=True)
class Amounts:
    """A column of texts that begins as amounts in one form.

    `formats` is that form by decimal, `fits` whether each text has it, by decimal; `decimals` are those that all texts
    have, none where no text shows a decimal or thousands. `all_known` says that the first texts are amounts in units that
    are known, in this form or another.
    """

    texts: pa.ChunkedArray
    formats: dict[str, str]
    fits: dict[str, pa.ChunkedArray]
    decimals: frozenset[str]
    all_known: bool


def find_amounts(columns: Mapping[str, pa.ChunkedArray], types: Mapping[str, str], target: str) -> dict[str, Amounts]:
    """The columns of texts that begin as amounts, by name; `types` are those that a person told.

    The target is among them only if it was told to be a number or has more than 20 different texts: fewer are classes.
    """
    found = {}
    for name, column in columns.items():
        is_told = types.get(name) == "number"
        if not is_text(column) or (name in types and not is_told):
            continue
        if is_told or name != target or pc.count_distinct(column).as_py() > MOST_CLASSES:
            found[name] = _find_form(column.cast(pa.string()), is_told)
    return {name: amounts for name, amounts in found.items() if amounts}


def convert_texts(
    columns: Mapping[str, pa.ChunkedArray],
    amounts: Mapping[str, Amounts],
    decimal: str,
    types: Mapping[str, str],
    target: str,
) -> tuple[dict[str, pa.ChunkedArray], dict[str, str | list[str]], list[str]]:
    """Convert the columns that are still texts and are `amounts`, or yes and no.

    Returns these, their formats by name, and notes. `decimal` is point or comma, `types` are those that a person told.
    A ModelerError names the first value that keeps a column from being what it was told, or that no float32 holds.
    """
    texts = {name: column for name, column in columns.items() if is_text(column)}
    found = {name: amounts[name] for name in texts if name in amounts}
    numbers, formats, notes = _convert_amounts(found, decimal, types)
    flags, pairs, said = _convert_flags(texts, types, target)
    return numbers | flags, formats | pairs, notes + said


def _convert_amounts(
    found: Mapping[str, Amounts], decimal: str, types: Mapping[str, str]
) -> tuple[dict[str, pa.ChunkedArray], dict[str, str], list[str]]:
    columns, formats, notes, said = {}, {}, [], []
    for name, amounts in found.items():
        form, fits = amounts.formats[decimal], amounts.fits[decimal]
        if not pc.all(fits).as_py():
            row = pc.index(fits, False).as_py()
            odd, alike = f"{amounts.texts[row].as_py()!r} in row {row + 1}", f"where others are as {form!r}"
            if types.get(name) == "number":
                raise ModelerError(
                    f"columns makes {name!r} a number, and {odd} is none, {alike}; mend or empty such values"
                )
            if amounts.all_known or pc.mean(fits.cast(pa.float64())).as_py() >= NEARLY:
                notes.append(
                    f"column {name!r} is no number because of {odd}, {alike}; mend or empty such values to use it as numbers"
                )
            continue
        columns[name], formats[name] = _read_amounts(name, amounts.texts, form), form
        read = " (12.5 stands for 12.5%)" if "%" in form else ""
        said.append(f"{name!r} from texts such as {_first(amounts.texts)!r}{read}")
    return columns, formats, notes + ([f"numbers: {', '.join(said)}"] if said else [])


def _convert_flags(
    texts: Mapping[str, pa.ChunkedArray], types: Mapping[str, str], target: str
) -> tuple[dict[str, pa.ChunkedArray], dict[str, list[str]], list[str]]:
    """Convert the columns that hold nothing but yes and no, both of them, in one of the `PAIRS`.

    The target keeps its texts, which are its classes. A column with only one of the two stays as it is, unless told.
    """
    columns, pairs, said = {}, {}, []
    for name, column in texts.items():
        is_told = types.get(name) == "boolean"
        if not is_told and (name in types or name == target):
            continue
        pair = _find_pair(name, column, is_told)
        if pair:
            spelled = [[text for text in _list_different(column) if fold_flag(text) == word] for word in pair]
            pairs[name] = [min(spellings, default=word) for spellings, word in zip(spelled, pair)]
            yes = pc.is_in(column, value_set=pa.array(spelled[1], column.type))
            columns[name] = pc.if_else(column.is_null(), pa.scalar(None, pa.bool_()), yes)
            said.append(f"{name!r} from {pairs[name][0]!r} and {pairs[name][1]!r}")
    return columns, pairs, [f"booleans: {', '.join(said)}"] if said else []


def _find_form(column: pa.ChunkedArray, is_told: bool) -> Amounts | None:
    head = column.drop_null().slice(0, HEAD).to_pylist()
    split = {text: _split(text, is_told) for text in dict.fromkeys(head)}
    read = [split[text] for text in head if split[text]]
    if not read:
        return None
    counted = Counter(parts["key"] for parts in read)
    key, count = counted.most_common(1)[0]
    all_known = len(read) == len(head) and all(KNOWN.fullmatch(parts["unit"]) for parts in read)
    if not (is_told or all_known or count >= NEARLY * len(head)):
        return None
    alike = [parts for parts in read if parts["key"] == key]
    formats = {word: _write_format(alike, decimal) for word, decimal in DECIMALS.items()}
    fits = {word: _match(column, form) for word, form in formats.items()}
    if not alike[0]["unit"] and not _is_marked(column, is_told) or not is_told and _all(column, r"^\s*\("):
        return None
    fitting = [word for word in DECIMALS if pc.all(fits[word]).as_py()]
    decimals = frozenset(fitting if _any(column, "[0-9][.,][0-9]") else ())
    return Amounts(column, formats, fits, decimals, all_known)


def _split(text: str, is_told: bool) -> dict | None:
    """The unit of a text that may be an amount, with what stands around it; None for any other text."""
    found = LOOSE.fullmatch(text) if len(text) <= LONGEST else None
    if not found or found["before"] and found["after"]:
        return None
    before, after = found["before"], found["after"]
    if before and not is_told and not re.fullmatch(f"{SIGN}|{CODE}", before):
        return None
    if after and not KNOWN.fullmatch(after) and not (found["right"] and re.fullmatch(WORD, after)):
        return None
    return {**found.groupdict(), "unit": before + after, "key": list_spellings(before + after)[0]}


def _write_format(alike: list[dict], decimal: str) -> str:
    """1,234.5 in the form of the first of these texts, with the thousands of the first that shows any."""
    first = alike[0]
    seen = (
        mark
        for parts in alike
        for mark in re.findall(f"[0-9]([{THOUSANDS[decimal]}])[0-9]{{3}}(?![0-9])", parts["digits"])
    )
    thousands = next(seen, THOUSANDS[decimal][0])
    before, after = (
        first["before"] and first["before"] + first["left"],
        first["after"] and first["right"] + first["after"],
    )
    return f"{before}1{thousands}234{decimal}5{after}"


def _is_marked(column: pa.ChunkedArray, is_told: bool) -> bool:
    """Do texts without a unit show by thousands or parentheses that they are amounts, not codes or telephone numbers?"""
    if not _any(column, f"[,('\u2019\u2212]|[0-9][{SPACES}][0-9]"):
        return False
    if is_told:
        return True
    lengths = pc.min_max(pc.utf8_length(pc.utf8_trim(column, SPACES)))
    is_even = lengths["min"] == lengths["max"] or _any(column, r"^\s*\+")
    return not _any(column, "^[^0-9]*0[0-9]") and not (is_even and _all(column, f"[0-9][{SPACES}][0-9]"))


def _match(column: pa.ChunkedArray, form: str) -> pa.ChunkedArray:
    fits = pc.match_substring_regex(column, write_pattern(*split_format(form)))
    return pc.and_(fits, pc.less_equal(pc.utf8_length(column), LONGEST))


def _read_amounts(name: str, column: pa.ChunkedArray, form: str) -> pa.ChunkedArray:
    """What `read_value` reads of each text, all of which have this form."""
    unit, decimal = split_format(form)
    bare = column
    for spelling in list_spellings(unit) if unit else ():
        bare = pc.replace_substring(bare, spelling, "")
    digits = pc.utf8_trim(bare, AROUND)
    for mark in THOUSANDS[decimal]:
        digits = pc.replace_substring(digits, mark, "")
    numbers = pc.replace_substring(digits, decimal, ".").cast(pa.float64())
    too_large = pc.greater(numbers, LARGEST)
    if pc.any(too_large).as_py():
        row = pc.index(too_large, True).as_py()
        raise ModelerError(
            f"column {name!r} has {column[row].as_py()!r} in row {row + 1}, which is beyond {LARGEST:.2g}; mend or empty it"
        )
    return pc.if_else(pc.match_substring_regex(bare, f"^[^0-9]*[{NEGATIVE}]"), pc.negate(numbers), numbers)


def _find_pair(name: str, column: pa.ChunkedArray, is_told: bool) -> tuple[str, str] | None:
    """The pair of which a column holds both texts and no other; where told, one is enough, and another is an error."""
    head = {fold_flag(text) for text in column.drop_null().slice(0, HEAD).unique().to_pylist()}
    pair = next((pair for pair in PAIRS if head & set(pair) and (is_told or head <= set(pair))), None)
    if pair is None:
        return None
    others = {text: fold_flag(text) for text in _list_different(column)}
    if is_told and (odd := [text for text, folded in others.items() if folded not in pair]):
        row = pc.index(column, pa.scalar(odd[0], column.type)).as_py() + 1
        raise ModelerError(
            f"columns makes {name!r} a boolean, and {odd[0]!r} in row {row} is neither {pair[0]!r} nor {pair[1]!r}; "
            "mend such values or leave them empty"
        )
    return pair if is_told or set(others.values()) == set(pair) else None


def _list_different(column: pa.ChunkedArray) -> list[str]:
    return column.drop_null().unique().to_pylist()


def _any(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, pattern)).as_py())


def _all(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py())


def _first(column: pa.ChunkedArray) -> str:
    return column.drop_null()[0].as_py()
