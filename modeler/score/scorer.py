"""A model at work on batches of a file: answers as columns, and the service's own faults. It is what a worker runs."""

import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pydantic_core import to_json

from modeler.linux import read_peak_memory
from modeler.model.answers import NotFiniteError, decide_classes, decode_answers
from modeler.model.contract import class_key, used_features
from modeler.model.graph import encode_columns
from modeler.model.stored import StoredModel, check_content
from modeler.score.parquet import open_part, read_slices
from modeler.score.values import Texts, is_text, read_values
from modeler.service.body import RequestError, describe_fault
from modeler.service.predictor import NO_ANSWER, Predictor

FEW = 500  # rows that the service judges at a time
NAMED = 20  # faults that a refusal names
FAULTS = pa.schema([("row", pa.int64()), ("field", pa.string()), ("message", pa.string()), ("value", pa.string())])


@dataclass(frozen=True)
class Job:
    """What every worker has to know: the columns, and what becomes of faults and answers.

    `schema` is that of the output, with the columns that are kept first. `texts` say how the columns of `written`, or all
    where that is None, write values as texts. `folder` is where workers write parts, or None where the client does. `coded`
    are columns of texts that are read as positions in a dictionary, for speed.
    """

    columns: Sequence[str]
    kept: Sequence[str]
    schema: pa.Schema
    form: str
    faults: str = "refuse"
    texts: Texts = Texts()
    written: Sequence[str] | None = ()
    coded: Sequence[str] = ()
    batch_rows: int = 0
    folder: str | None = None


@dataclass
class Scored:
    """What came of one piece of work: its rows, those answered, the answers as CSV or tables (none where the worker wrote
    them), the table of faults, and the most memory that the worker ever had, in bytes."""

    part: int
    rows: int
    answered: int
    answers: bytes | list[pa.Table] | None
    faults: pa.Table
    peak: int


def open_predictor(tag: str, files: dict[str, bytes], folder: Path) -> Predictor:
    """A predictor from a model's files, put into a folder, once they proved whole and the golden rows were answered."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = StoredModel(tag, folder)
    check_content(model)
    predictor = Predictor(model, sys.maxsize)
    predictor.check_golden()
    return predictor


def describe_answers(predictor: Predictor) -> list[pa.Field]:
    """The columns of the answers: label and probabilities, or value and what belongs to it; then the number of warnings."""
    target = predictor.contract["target"]
    if classes := target["classes"]:
        names = [f"probability:{class_key(label)}" for label in classes]
        fields = [pa.field("label", _list_classes(classes).type), *(pa.field(name, pa.float64()) for name in names)]
    else:
        (answer,) = predictor.example["predictions"]
        fields = [pa.field(name, pa.float64()) for name in answer if name != "warnings"]
    return [*fields, pa.field("warnings", pa.int64())]


class Scorer:
    """Answers the rows of a job."""

    def __init__(self, predictor: Predictor, job: Job):
        self._predictor, self._job, self._footers = predictor, job, {}
        self._features, classes = used_features(predictor.contract), predictor.contract["target"]["classes"]
        self._classes = _list_classes(classes) if classes else None

    def work(self, part: int, first: int, source: Sequence | pa.RecordBatch, check: bool) -> Scored:
        """Answer a batch, or the slices of files that a worker reads by itself, whose first row has the number `first`.

        With `check`, faults are looked for and nothing is answered.
        """
        job, scored, tables = self._job, Scored(part, 0, 0, None, pa.Table.from_batches([], FAULTS), 0), []
        batches = (
            [source]
            if isinstance(source, pa.RecordBatch)
            else read_slices(source, job.columns, job.coded, job.batch_rows, self._footers)
        )
        writing = job.folder and not check
        with open_part(job.folder, part, job.schema) if writing else nullcontext() as writer:
            for batch in batches:
                table, faults = self.score(batch, first + scored.rows, check)
                scored.rows += len(batch)
                scored.answered += len(table) - table[-1].null_count
                check = check or bool(faults) and job.faults == "refuse"
                if faults:
                    scored.faults = pa.concat_tables([scored.faults, _tabulate(faults)])
                if writing:
                    writer.write(table)
                elif not check:
                    tables.append(table)
                if job.faults == "refuse" and len(scored.faults) >= NAMED:
                    break
        if not (writing or check):
            scored.answers = b"".join(map(write_rows, tables)) if job.form == "csv" else tables
        scored.peak = read_peak_memory()
        return scored

    def score(self, batch: pa.RecordBatch, first: int, check: bool = False) -> tuple[pa.Table, list[dict]]:
        """The output's rows of one batch, and its faults as the service describes them, by row and then by column."""
        values = {
            feature["name"]: read_values(batch[feature["name"]], feature, self._texts(feature["name"]))
            for feature in self._features
        }
        doubtful = np.flatnonzero(np.logical_or.reduce([column.doubtful for column in values.values()]))
        rows = zip(*(column.tell(doubtful) for column in values.values())) if len(doubtful) else ()
        accepted, faults = self._judge(doubtful.tolist(), [dict(zip(values, row)) for row in rows])
        if check:
            return pa.Table.from_batches([], self._job.schema), _number(faults, first)
        good = np.ones(len(batch), dtype=bool)
        good[[fault["row"] for fault in faults]] = False
        with np.errstate(over="ignore"):  # of the numbers that are faults
            inputs = encode_columns({name: column.vector for name, column in values.items()}, self._predictor.contract)
        if accepted:
            for name, block in self._predictor.graph.encode(list(accepted.values())).items():
                inputs[name][list(accepted)] = block
        if faults:
            inputs = {name: block[good] for name, block in inputs.items()}
        answers, warned, finite = self._answer(inputs)
        if not finite.all():
            lost = np.flatnonzero(good)[~finite]
            faults = sorted(
                faults + [describe_fault(NO_ANSWER, row) for row in lost.tolist()], key=lambda fault: fault["row"]
            )
            good[lost] = False
        return self._put_together(batch, good, [*answers, _wrap(warned[finite])]), _number(faults, first)

    def _texts(self, name: str) -> Texts | None:
        return self._job.texts if self._job.written is None or name in self._job.written else None

    def _judge(self, numbers: list[int], rows: list[dict]) -> tuple[dict[int, dict], list[dict]]:
        """Have the service read rows, given by their numbers: those that it accepts, and the faults of the others."""
        accepted, faults, reader = {}, [], self._predictor.reader
        for start in range(0, len(rows), FEW):
            few, told = numbers[start : start + FEW], rows[start : start + FEW]
            try:
                accepted |= zip(few, reader.read(to_json(told)))
                continue
            except RequestError:  # its list would be cut
                pass
            for number, row in zip(few, told):
                try:
                    (accepted[number],) = reader.read(to_json([row]))
                except RequestError as error:
                    faults += [fault | {"row": number} for fault in error.answer["detail"]]
        return accepted, faults

    def _answer(self, inputs: dict[str, np.ndarray]) -> tuple[list[pa.Array], np.ndarray, np.ndarray]:
        """The columns of the answers, the number of warnings of each row, and which rows have a finite answer."""
        rows = len(next(iter(inputs.values())))
        finite, output = np.ones(rows, dtype=bool), self._predictor.graph.run(inputs) if rows else None
        if output is None:
            return [pa.array([], field.type) for field in self._fields()], np.zeros(0, dtype=np.int64), finite
        try:
            answers = self._decode(output)
        except NotFiniteError as error:
            finite[error.rows] = False
            answers = self._decode(output[finite])
        return answers, self._predictor.count_warnings(inputs), finite

    def _decode(self, output: np.ndarray) -> list[pa.Array]:
        contract = self._predictor.contract
        if contract["target"]["classes"]:
            probabilities, chosen = decide_classes(output, contract)
            return [self._classes.take(_wrap(chosen)), *map(_wrap, np.ascontiguousarray(probabilities.T))]
        answers = decode_answers(output, contract)
        return [_wrap(np.array([answer[field.name] for answer in answers], dtype=float)) for field in self._fields()]

    def _fields(self) -> list[pa.Field]:
        return list(self._job.schema)[len(self._job.kept) : -1]

    def _put_together(self, batch: pa.RecordBatch, good: np.ndarray, answers: list[pa.Array]) -> pa.Table:
        kept = [self._keep(batch[name], field) for name, field in zip(self._job.kept, self._job.schema)]
        if self._job.faults == "blank" and not good.all():
            position = pa.array(np.cumsum(good) - 1, mask=~good)
            answers = [column.take(position) for column in answers]
        elif not good.all():
            kept = [column.filter(pa.array(good)) for column in kept]
        return pa.table([*kept, *answers], schema=self._job.schema)

    def _keep(self, column: pa.Array, field: pa.Field) -> pa.Array:
        if self._job.written is None and is_text(column.type):  # an empty field of a .csv file
            column = pc.if_else(pc.equal(column, ""), None, column)
        return column if column.type == field.type else column.cast(field.type)


def _list_classes(classes: list) -> pa.Array:
    """The labels as a column, without pandas, as in `_wrap`."""
    if isinstance(classes[0], bool):
        return _wrap(np.array(classes, dtype=np.uint8)).cast(pa.bool_())
    if not isinstance(classes[0], str):
        return _wrap(np.array(classes))
    texts = [label.encode() for label in classes]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])


def _wrap(numbers: np.ndarray) -> pa.Array:
    """Numbers as they lie in memory. `pa.array` would import pandas, which takes half a second of each worker's start."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


def write_rows(table: pa.Table, header: bool = False) -> bytes:
    """Rows as CSV, as they are: a text that begins with = stays one, since whoever reads it back needs it so."""
    if not (len(table) or header):
        return b""
    table, sink = (
        table.combine_chunks(),
        io.BytesIO(),
    )  # for a chunk without rows, pyarrow 26 writes what its buffer held
    pa.csv.write_csv(table, sink, pa.csv.WriteOptions(include_header=header))
    return sink.getvalue()


def _number(faults: list[dict], first: int) -> list[dict]:
    return [fault | {"row": first + fault["row"]} for fault in faults]


def _tabulate(faults: list[dict]) -> pa.Table:
    def show(value) -> str | None:
        return value if value is None or isinstance(value, str) else to_json(value).decode()

    return pa.Table.from_pylist([fault | {"value": show(fault["value"])} for fault in faults], FAULTS)
