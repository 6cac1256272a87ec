"""A .csv file that is scored: its dialect, as a retrain reads it, and its rows block by block."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from modeler import ModelerError
from modeler.data.dialect import (
    BYTE_ORDER_MARKS,
    SEPARATORS,
    WITH_COMMA,
    WITH_POINT,
    CsvFormat,
    all_match,
    find_decimal,
    find_encoding,
    find_separator,
    holds_text,
    refuse_foreign,
)
from modeler.data.limits import check_names, explain_csv, refuse_repeated
from modeler.data.reading import MISSING, NUMBER, SAMPLE
from modeler.model.amounts import has_texts, read_value
from modeler.model.contract import used_features
from modeler.score.places import Place
from modeler.score.source import BLOCK
from modeler.score.values import Texts


@dataclass(frozen=True)
class CsvSource:
    """A .csv file: how it is written, and what its numbers and missing values look like."""

    is_csv = True
    place: Place
    path: str
    size: int
    encoding: str
    separator: str
    header: Sequence[str]
    texts: Texts
    decimal: str = "point"

    @property
    def schema(self) -> pa.Schema:
        """All columns with a name, as texts; one without is left out."""
        return pa.schema([(name, pa.string()) for name in self._names if name])

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        return {self.path: self.schema}

    @property
    def _names(self) -> list[str]:
        return [name.strip() if self.texts.trimmed or not name.strip() else name for name in self.header]

    def read_blocks(self, columns: Sequence[str], contract: dict, kept: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Read these columns: numbers as such, if every number of the file can be read so, and all else as texts.

        Kept columns are texts. A ModelerError names an uneven row, or says where the file cannot be read.
        """
        types, position = dict.fromkeys(columns, pa.string()), 0
        for feature in used_features(contract):
            if feature["name"] in [*kept, *self.texts.formatted] or self.texts.trimmed:
                continue
            if feature["type"] == "category":
                types[feature["name"]] = pa.dictionary(pa.int32(), pa.string())
            elif feature["type"] == "number" and (feature["name"] in self.texts.local) == (self.decimal == "comma"):
                types[feature["name"]] = pa.float64()
        try:
            for block in self._parse(types):
                position += 1
                yield block
        except pa.ArrowInvalid:  # a text among the numbers: the rows from there on are read as texts
            texts = {name: kind if pa.types.is_dictionary(kind) else pa.string() for name, kind in types.items()}
            try:
                for number, block in enumerate(self._parse(texts)):
                    if number >= position:
                        yield block
            except (OSError, ValueError) as error:
                raise self._explain(error) from None
        except (OSError, ValueError) as error:
            raise self._explain(error) from None

    def _parse(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        raw, uneven = dict(zip(self._names, self.header)), []

        def remember(row) -> str:
            uneven.append(row)
            return "skip"

        read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, encoding=self.encoding.removesuffix("-sig"))
        parse = pa.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True, invalid_row_handler=remember)
        convert = pa.csv.ConvertOptions(
            column_types={raw[name]: kind for name, kind in types.items()},
            include_columns=[raw[name] for name in types],
            null_values=MISSING,
            decimal_point="," if self.decimal == "comma" else ".",
        )
        with self.place.system.open_input_stream(self.path) as file:
            reader = pa.csv.open_csv(file, read, parse, convert)
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    batch = None
                if uneven:
                    raise self._refuse_uneven(uneven[0])
                if batch is None:
                    return
                yield batch.rename_columns(list(types))

    def _refuse_uneven(self, row) -> ModelerError:
        return ModelerError(
            f"line {row.number} of {self.place.shown}, {row.text[:60]!r}, has {row.actual_columns} values where the header "
            f"has {row.expected_columns} names; mend it, or see whether the file is cut off there"
        )

    def _explain(self, error: Exception) -> ModelerError:
        return ModelerError(
            f"{self.place.shown} cannot be read as .csv in {self.encoding}: {explain_csv(error, BLOCK)}; mend the file, or see "
            "whether it is cut off"
        )


def open_csv(place: Place, path: str, contract: dict, told: CsvFormat) -> CsvSource:
    """Find out how a file is written: as the model's training was told, or by the file itself.

    A ModelerError: it is none, has no rows, or can be read in two ways.
    """
    size = place.system.get_file_info(path).size
    with place.system.open_input_stream(path) as file:
        head = file.read(SAMPLE)
    try:
        refuse_foreign(place.shown, head)
        encoding = _find_encoding(place, path, head, told.encoding)
        sample = head.decode(encoding, "ignore")
        if not sample.strip():
            raise ModelerError(f"{place.shown} is empty; give a file with a header")
        separator, header = _find_header(place, sample, contract, told.separator, len(head) == SAMPLE)
        named = [name.strip() for name in header if name.strip()]
        check_names(place.shown, named)
        refuse_repeated(place.shown, named)
        trimmed = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
        texts = Texts(tuple(MISSING), NUMBER, trimmed=trimmed)
        source = CsvSource(place, path, size, encoding, SEPARATORS[separator], header, texts)
        return _settle_decimals(source, contract, told.decimal)
    except ModelerError as error:
        raise ModelerError(str(error).replace("say it with", "give a .parquet file, or train with")) from None


def _find_encoding(place: Place, path: str, head: bytes, told: str) -> str:
    if place.is_local or told != "auto" or head.startswith(tuple(BYTE_ORDER_MARKS)):
        return find_encoding(path, head, told)[0]
    decoder = codecs.getincrementaldecoder("utf-8")()
    with place.system.open_input_stream(path) as file, suppress(UnicodeDecodeError):
        while piece := file.read(BLOCK):
            decoder.decode(piece)
        return "utf-8"
    return "cp1252"


def _find_header(place: Place, sample: str, contract: dict, told: str, cut: bool) -> tuple[str, list[str]]:
    """The separator and the names: those that the contract knows tell them, else the rows do."""
    used = {feature["name"] for feature in used_features(contract)}
    csv.field_size_limit(BLOCK)
    headers = {
        name: next(row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=character) if row)
        for name, character in SEPARATORS.items()
    }
    fitting = [name for name, header in headers.items() if used <= {column.strip() for column in header} | set(header)]
    name = fitting[0] if told == "auto" and fitting else find_separator(place.shown, sample, told, cut)
    return name, headers[name]


def _settle_decimals(source: CsvSource, contract: dict, told: str) -> CsvSource:
    """Find by the first block, as a retrain does by all rows, how numbers are written that a cast does not read."""
    numbers = {
        f["name"]: f for f in used_features(contract) if f["type"] == "number" and f["name"] in source.schema.names
    }
    first = next(source._parse(dict.fromkeys(numbers, pa.string())), None) if numbers else None
    if first is None or not len(first):
        return source
    raw, columns, local, formatted = {}, {}, {}, []
    for name, feature in numbers.items():
        texts = pc.utf8_trim_whitespace(first[name])
        if has_texts(feature) and _is_formatted(texts, feature):
            formatted.append(name)
            continue
        looks = [pc.match_substring_regex(texts, pattern) for pattern in (WITH_COMMA, WITH_POINT, NUMBER)]
        raw[name] = pa.chunked_array([texts.filter(pc.or_(looks[0], pc.or_(looks[1], looks[2])))])
        with suppress(pa.ArrowInvalid):
            columns[name] = raw[name].cast(pa.float64())
        columns.setdefault(name, raw[name])
    decimal = find_decimal(source.place.shown, raw, columns, told, {})
    for name, column in raw.items():
        if decimal == "comma" and all_match(column, WITH_COMMA):
            local[name] = WITH_COMMA, "."
        elif decimal == "point" and all_match(column, WITH_POINT) and (told == "point" or holds_text(column, ",")):
            local[name] = WITH_POINT, ","
    return replace(source, texts=replace(source.texts, local=local, formatted=formatted), decimal=decimal)


def _is_formatted(column: pa.Array, feature: dict) -> bool:
    """Are the numbers of a column amounts as the contract has them? One that a cast alone can read says no."""
    for text in column.filter(pc.match_substring_regex(column, NUMBER)).unique().to_pylist():
        try:
            read_value(text, feature)
        except ValueError:
            return False
    return True
