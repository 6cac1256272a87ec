"""Bodies of prediction requests: their headers, and the four forms pandas writes, validated with a model made from the contract."""

import math
import re
import sys
from collections import Counter
from collections.abc import Container, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from modeler import did_you_mean
from modeler.model.amounts import LARGEST, describe_texts, has_texts, read_value, show_texts, write_example
from modeler.model.dates import read_date, show_date

MOST_FAULTS = 100  # listed of one request; the rest is counted
MOST_COUNTED = 10_000  # faults after which the rest of a request is not read
MOST_NESTED = 20  # lists and objects of a body for each row it may have; millions would keep all else waiting
CHUNK = 500  # rows validated at a time, so that other requests get a turn during a large one
MOST_SUGGESTIONS = 10  # different unknown columns of one request that get a "did you mean"
LONGEST_ECHO = 100  # characters of a caller's text that an answer repeats
MOST_SHOWN = 20  # categories that a description lists
RECORDS, ONE_RECORD, COLUMNS, INDEXED_COLUMNS = FORMS = ("records", "one record", "columns", "indexed columns")
JSON = "application/json"
JSON_TYPE, CHARSET = re.compile(r"application/([\w.+-]+\+)?json"), re.compile(r'charset="?([\w.-]+)')
TYPES = {"number": Annotated[float, Field(ge=-LARGEST, le=LARGEST)], "boolean": bool, "category": str}
EXPECTED = {"number": "a number", "boolean": "true or false", "category": "a text", "date": "a date"}


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status, the JSON object that says why, and headers for the answer.

    Without faults (see `describe_fault`) the sentence is the only one, and `value` is what was received.
    """

    def __init__(self, status: int, sentence: str, faults: Sequence[dict] = (), *, value=None, headers: Sequence = ()):
        super().__init__(sentence)
        self.status, self.headers = status, headers
        self.answer = {"error": sentence, "detail": list(faults) or [describe_fault(sentence, value=value)]}


def find_refusal(headers: dict[bytes, bytes], max_body: int) -> RequestError | None:
    """The refusal of a request for its headers alone, if any. A body without a type is taken for JSON."""
    if int(headers.get(b"content-length") or 0) > max_body:
        return refuse_size(max_body)
    content_type = headers.get(b"content-type", JSON.encode()).decode("latin-1")
    media, _, parameters = content_type.lower().partition(";")
    charset = CHARSET.search(parameters)
    if not JSON_TYPE.fullmatch(media.strip()) or (charset and charset[1] not in ("utf-8", "utf8", "us-ascii")):
        sentence = "the body must be JSON in UTF-8: send the header content-type: application/json"
        return RequestError(415, sentence, value=content_type)
    encoding = headers.get(b"content-encoding", b"").decode("latin-1")
    if encoding.strip().lower() not in ("", "identity"):
        return RequestError(415, "the body must not be compressed", value=encoding)
    return None


def refuse_size(max_body: int) -> RequestError:
    return RequestError(413, f"the body is too large; send at most {max_body} bytes a request")


class BodyReader:
    """Reads the bodies of requests into rows, and names the faults of those it cannot use.

    Columns that the contract names and the model does not use may be left out, and may hold anything.
    """

    def __init__(self, contract: dict, max_rows: int):
        self.max_rows = max_rows
        self._target = contract["target"]["name"]
        self._features = {feature["name"]: feature for feature in contract["features"]}
        self._ignored = {feature["name"] for feature in contract["features"] if not feature["used"]}
        row = create_row_model(contract)
        self._row, self._rows = TypeAdapter(row), TypeAdapter(list[row])

    def read(self, body: bytes, max_rows: int = sys.maxsize) -> list[dict]:
        """Parse and validate a body into one mapping a row, from column name to value, in the order of the request.

        `max_rows` is a limit of this request's own. A RequestError lists every fault of the body, or the first 100 and the count of all.
        """
        most = MOST_NESTED * self.max_rows
        if len(body) > most and body.count(b"[") + body.count(b"{") > most:
            raise RequestError(413, f"the body has too many lists and objects; send at most {most} a request")
        try:
            content = from_json(body, cache_strings="keys")
        except ValueError as error:
            told = f"cannot be read as JSON in UTF-8: {error}" if body.strip() else "is empty; send rows as JSON"
            raise RequestError(400, f"the body {told}") from None
        rows = find_rows(content, self._ignored, min(max_rows, self.max_rows))
        if not rows:
            raise RequestError(400, "there are no rows; send at least one")
        validated, faults, count = [], [], 0
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            count += self._cut_rows(part)
            try:
                validated += self._rows.validate_python(part)
            except ValidationError as error:
                count += error.error_count()
                faults += self._list_faults(part, start, MOST_FAULTS - len(faults))
                if count > MOST_COUNTED:
                    break
        if count:
            told = count_faults(count, len(faults))
            raise RequestError(400, f"the request has {told}; nothing was predicted", faults)
        return validated

    def _cut_rows(self, rows: list) -> int:
        """Drop the unknown columns of each row beyond those that are listed, and return how many these were.

        A million of them would keep pydantic busy for seconds, and nothing else would be answered meanwhile.
        """
        most, count = len(self._features) + MOST_FAULTS, 0
        for number, row in enumerate(rows):
            if type(row) is dict and len(row) > most:
                surplus = set([name for name in row if name not in self._features][MOST_FAULTS:])
                rows[number] = {name: value for name, value in row.items() if name not in surplus}
                count += len(surplus)
        return count

    def _list_faults(self, rows: list, start: int, most: int) -> list[dict]:
        """Describe the first faults, row by row: to have pydantic list those of all rows would take seconds."""
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
            return f"missing; it must be {describe_values(self._features[field])}"
        if kind == "extra_forbidden":
            return self._explain_unknown(field, suggestions)
        feature = self._features[field]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kind in ("greater_than_equal", "less_than_equal") or (feature["type"] == "number" and whole):
            return f"must be a number between -{LARGEST:.2g} and {LARGEST:.2g}, which is what a float32 holds"
        allowed = describe_values(feature)
        if kind == "value_error":  # a text that is no date, amount or yes and no
            return f"{shorten(value)!r} {_find_fault(value, feature)}; it must be {allowed}"
        return f"must be {allowed.replace('a number', 'a finite number', 1) if kind == 'finite_number' else allowed}"

    def _explain_unknown(self, field: str, suggestions: dict[str, str]) -> str:
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
        name = feature["name"]
        if feature["used"]:
            kind = _create_date_type(feature) if feature["type"] == "date" else _create_type(feature)
            kind = kind | None if feature["missing"] else kind
            examples = [feature["example"], *([write_example(feature)] if has_texts(feature) else [])]
            about = Field(title=name, description=describe_values(feature), examples=examples)
            fields[name] = Annotated[kind, about]
        else:
            told = f"{_describe_kind(feature)} in training, not used ({feature['reason']}); may be left out"
            fields[name] = NotRequired[Annotated[Any, Field(title=name, description=told)]]
    return with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))(TypedDict("Row", fields))


def _create_type(feature: dict):
    """The type of a value that is no date. A text for a feature with a format becomes its number or boolean here."""
    kind = TYPES[feature["type"]]
    if not has_texts(feature):
        return kind
    return Annotated[
        kind,
        BeforeValidator(lambda value: read_value(value, feature)),
        Field(json_schema_extra=describe_texts(feature)),
    ]


def _create_date_type(feature: dict):
    """A text that is a date of the feature. It stays a text: `read_date` keeps what it read."""

    def check(text: str) -> str:
        read_date(text, feature)
        return text

    form = {"format": "date-time" if feature["time"] else "date"}
    return Annotated[str, AfterValidator(check), Field(json_schema_extra=form)]


def _find_fault(text: str, feature: dict) -> str:
    try:
        return str(read_date(text, feature) if feature["type"] == "date" else read_value(text, feature))
    except ValueError as error:
        return str(error)


def describe_values(feature: dict) -> str:
    """The values that a column may have and those it had in training, as the end of "must be"."""
    kind = _describe_kind(feature)
    if feature["type"] == "number":
        return f"{kind}; in training {feature['min']:.10g} to {feature['max']:.10g}"
    if feature["type"] == "date":
        return f"{kind}, such as {show_date(feature)}; in training {feature['min']} to {feature['max']}"
    if feature["type"] == "boolean":
        return kind
    shown = ", ".join(repr(shorten(category)) for category in feature["categories"][:MOST_SHOWN])
    more = len(feature["categories"]) - MOST_SHOWN
    return f"{kind}; in training {shown}{f' and {more} more' if more > 0 else ''}"


def _describe_kind(feature: dict) -> str:
    texts = show_texts(feature) if feature["used"] and has_texts(feature) else ""
    return EXPECTED[feature["type"]] + texts + (" or null" if feature["missing"] else "")


def find_rows(content, ignored: Container[str], max_rows: int) -> list:
    """Find which of the four forms a parsed body has, and its rows.

    Columns of lists are matched by position, columns of indexed values by index, in the order in which the indices first
    appear; a value that a column lacks is left out of its row. Ignored columns count only when there is no other.
    More rows than `max_rows` are refused before they are made.
    """
    if isinstance(content, list):
        _check_count(len(content), max_rows)
        return content
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a list of records, one record or an object of columns", value=content)
    columns = {name: values for name, values in content.items() if name not in ignored} or content
    kinds = Counter(map(type, columns.values()))
    form = max(list, dict, key=kinds.__getitem__)
    if kinds[form] * 2 <= len(columns):
        return [content]
    if others := [name for name, values in columns.items() if type(values) is not form]:
        message = f"must be {'a list' if form is list else 'an object'}, as other columns are"
        faults = [describe_fault(message, None, name, columns[name]) for name in others[:MOST_FAULTS]]
        told = count_faults(len(others), len(faults))
        raise RequestError(400, f"the columns differ in form, which makes {told}; nothing was predicted", faults)
    _check_count(max(map(len, columns.values())), max_rows)
    rows = {}
    for name, values in columns.items():
        for index, value in values.items() if form is dict else enumerate(values):
            rows.setdefault(index, {})[name] = value
        _check_count(len(rows), max_rows)
    return list(rows.values())


def count_faults(count: int, listed: int) -> str:
    """How many faults a request has, and how many of them are listed."""
    told = "1 fault" if count == 1 else f"{count} faults" if count <= MOST_COUNTED else f"over {MOST_COUNTED} faults"
    return told + (f", of which the first {listed} are listed" if count > listed else "")


def _check_count(rows: int, most: int) -> None:
    if rows > most:
        raise RequestError(413, f"{rows} rows are too many; send at most {most} a request", value=rows)


def write_forms(rows: Sequence[dict]) -> dict[str, object]:
    """Rows in each of `FORMS` that can hold them; one record is for a single row alone."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    indexed = {name: {str(index): value for index, value in enumerate(values)} for name, values in columns.items()}
    forms = {RECORDS: list(rows), ONE_RECORD: rows[0], COLUMNS: columns, INDEXED_COLUMNS: indexed}
    return forms if len(rows) == 1 else {form: body for form, body in forms.items() if form != ONE_RECORD}


def describe_fault(message: str, row: int | None = None, field: str | None = None, value=None) -> dict:
    """One fault as answers list it; long texts are shortened and what JSON cannot hold is written as text."""
    if isinstance(value, list | dict):
        value = f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    elif isinstance(value, str):
        value = shorten(value)
    elif isinstance(value, float) and not math.isfinite(value):
        value = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    elif isinstance(value, int) and abs(value) > LARGEST:
        value = shorten(str(value))
    return {"row": row, "field": field and shorten(field), "message": message, "value": value}


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST_ECHO else text[: LONGEST_ECHO - 1] + "…"
