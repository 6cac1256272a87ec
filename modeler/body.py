"""Bodies of prediction requests: the four forms pandas writes, validated with a model made from the contract."""

import math
from collections import Counter
from collections.abc import Container, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from modeler import did_you_mean

LARGEST = 3.4028234663852886e38  # the greatest number a float32 holds
MOST_FAULTS = 100  # listed of one request; the rest is counted
MOST_COUNTED = 10_000  # faults from which a request is not read on
CHUNK = 500  # rows validated at a time, so that a large request leaves room for others in between
MOST_SUGGESTIONS = 10  # different unknown columns of one request that get a "did you mean"
LONGEST_ECHO = 100  # characters of a caller's text that an answer repeats
MOST_SHOWN = 20  # categories that a description lists
RECORDS, ONE_RECORD, COLUMNS, INDEXED_COLUMNS = FORMS = ("records", "one record", "columns", "indexed columns")
TYPES = {"number": float, "boolean": bool, "category": str}
EXPECTED = {"number": "a number", "boolean": "true or false", "category": "a text"}


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status, and the JSON object that says why.

    Parameters
    ----------
    faults
        Of `describe_fault`. Left out, the sentence itself is the one fault.
    value
        What was received, for that one fault.
    """

    def __init__(self, status: int, sentence: str, faults: Sequence[dict] = (), *, value=None):
        super().__init__(sentence)
        self.status = status
        self.answer = {"error": sentence, "detail": list(faults) or [describe_fault(sentence, value=value)]}


class BodyReader:
    """Reads the bodies of requests into rows, and names every fault of those it cannot use.

    Parameters
    ----------
    contract
        Of the model that answers. Columns it does not use may be left out, and hold anything.
    max_rows
        A request with more is refused.
    """

    def __init__(self, contract: dict, max_rows: int):
        self.max_rows = max_rows
        self._target = contract["target"]["name"]
        self._features = {feature["name"]: feature for feature in contract["features"]}
        self._ignored = {feature["name"] for feature in contract["features"] if not feature["used"]}
        row = create_row_model(contract)
        self._row, self._rows = TypeAdapter(row), TypeAdapter(list[row])

    def read(self, body: bytes) -> list[dict]:
        """Parse and validate a body.

        Returns
        -------
        list of dict
            One mapping a row, from column name to value, in the order of the request.

        Raises
        ------
        RequestError
            With every fault of the body, or the first 100 and the count of all.
        """
        try:
            content = from_json(body, cache_strings="keys")
        except ValueError as error:
            raise RequestError(400, f"the body is not JSON: {error}") from None
        rows = find_rows(content, self._ignored)
        if not rows:
            raise RequestError(400, "there are no rows; send at least one")
        if len(rows) > self.max_rows:
            raise RequestError(
                413, f"{len(rows)} rows are too many; send at most {self.max_rows} a request", value=len(rows)
            )
        validated, faults, count = [], [], 0
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            try:
                validated += self._rows.validate_python(part)
            except ValidationError as error:
                count += error.error_count()
                faults += self._list_faults(part, start, MOST_FAULTS - len(faults))
                if count > MOST_COUNTED:
                    break
        if not count:
            return validated
        told = (
            "1 fault" if count == 1 else f"{count} faults" if count <= MOST_COUNTED else f"over {MOST_COUNTED} faults"
        )
        more = f", of which the first {len(faults)} are listed" if count > len(faults) else ""
        raise RequestError(400, f"the request has {told}{more}; nothing was predicted", faults)

    def _list_faults(self, rows: list, start: int, most: int) -> list[dict]:
        """Describe the first faults, row by row: pydantic would list those of all rows, which takes seconds."""
        faults, suggestions = [], {}
        for number, row in enumerate(rows, start):
            if len(faults) == most:
                break
            try:
                self._row.validate_python(row)
            except ValidationError as invalid:
                for error in invalid.errors(include_url=False, include_context=False)[: most - len(faults)]:
                    field = str(error["loc"][0]) if error["loc"] else None
                    message = self._explain(error["type"], field, error["input"], suggestions)
                    value = None if error["type"] == "missing" else error["input"]
                    faults.append(describe_fault(message, number, field, value))
        return faults

    def _explain(self, kind: str, field: str | None, value, suggestions: dict[str, str]) -> str:
        if field is None:
            return "a row must be an object from column name to value"
        if kind == "missing":
            return f"missing column; it must be {describe_values(self._features[field])}"
        if kind in ("greater_than_equal", "less_than_equal"):
            return f"must be a number of at most {LARGEST:.2g}, the most that a float32 holds"
        if kind != "extra_forbidden":
            allowed = describe_values(self._features[field])
            return (
                f"must be {allowed.replace('a number', 'a finite number', 1) if kind == 'finite_number' else allowed}"
            )
        if field == self._target:
            return "this is the column that the model predicts; leave it out"
        if field not in suggestions:
            near = did_you_mean(field[:LONGEST_ECHO], self._features) if len(suggestions) < MOST_SUGGESTIONS else ""
            suggestions[field] = near or "; /docs.json lists the known ones"
        return f"unknown column{suggestions[field]}"


def create_row_model(contract: dict) -> type:
    """Make the type of one row: strict, without NaN and Infinity, and no column that the contract does not name."""
    fields = {}
    for feature in contract["features"]:
        if not feature["used"]:
            about = Field(description=f"not used ({feature['reason']}); may be left out")
            fields[feature["name"]] = NotRequired[Annotated[Any, about]]
            continue
        kind = TYPES[feature["type"]]
        if feature["type"] == "number":
            kind = Annotated[kind, Field(ge=-LARGEST, le=LARGEST)]
        if feature["missing"]:
            kind = kind | None
        about = Field(title=feature["name"], description=describe_values(feature), examples=[feature["example"]])
        fields[feature["name"]] = Annotated[kind, about]
    return with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))(TypedDict("Row", fields))


def describe_values(feature: dict) -> str:
    """What may stand in a column and what stood there in training, as the end of "must be"."""
    kind = EXPECTED[feature["type"]] + (" or null" if feature["missing"] else "")
    if feature["type"] == "number":
        return f"{kind}; in training {feature['min']:.10g} to {feature['max']:.10g}"
    if feature["type"] == "boolean":
        return kind
    shown = ", ".join(repr(_shorten(category)) for category in feature["categories"][:MOST_SHOWN])
    more = len(feature["categories"]) - MOST_SHOWN
    return f"{kind}; in training {shown}{f' and {more} more' if more > 0 else ''}"


def find_rows(content, ignored: Container[str] = ()) -> list:
    """Find which of the four forms a parsed body has, and its rows.

    Columns of lists are matched by position, columns of indexed values by index, in the order in which the indices first
    appear; a value that a column lacks is left out of its row. Columns to ignore count only where there is no other.
    """
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a list of records, one record or an object of columns", value=content)
    kinds = Counter(map(type, content.values()))
    form = max(list, dict, key=kinds.__getitem__)
    if kinds[form] * 2 <= len(content):
        return [content]
    content = {name: values for name, values in content.items() if name not in ignored} or content
    if any(type(values) is not form for values in content.values()):
        faults = [
            describe_fault(
                f"must be {'a list' if form is list else 'an object'}, as other columns are", None, name, value
            )
            for name, value in content.items()
            if type(value) is not form
        ]
        raise RequestError(400, "the columns of the request differ in form", faults[:MOST_FAULTS])
    rows = {}
    for name, values in content.items():
        for index, value in values.items() if form is dict else enumerate(values):
            rows.setdefault(index, {})[name] = value
    return list(rows.values())


def write_forms(rows: Sequence[dict]) -> dict[str, object]:
    """Rows in each of `FORMS` that can hold them; only a single row is also one record."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    indexed = {name: {str(index): value for index, value in enumerate(values)} for name, values in columns.items()}
    forms = {RECORDS: list(rows), ONE_RECORD: rows[0], COLUMNS: columns, INDEXED_COLUMNS: indexed}
    return forms if len(rows) == 1 else {form: body for form, body in forms.items() if form != ONE_RECORD}


def describe_fault(message: str, row: int | None = None, field: str | None = None, value=None) -> dict:
    """One fault as answers list it; long texts are shortened and what JSON cannot hold is written as text."""
    if isinstance(value, list | dict):
        value = f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    elif isinstance(value, str):
        value = _shorten(value)
    elif isinstance(value, float) and not math.isfinite(value):
        value = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    elif isinstance(value, int) and abs(value) > LARGEST:
        value = _shorten(str(value))
    return {"row": row, "field": field and _shorten(field), "message": message, "value": value}


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_ECHO else text[: LONGEST_ECHO - 1] + "…"
