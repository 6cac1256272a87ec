"""One scoring from its options to its output: what is checked first, who does the work, and what came of it."""

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from modeler import ModelerError, UsageError, did_you_mean, list_names
from modeler.cluster.connect import Cluster, open_cluster
from modeler.model.contract import used_features
from modeler.model.stored import CONTRACT, GRAPH, find_model
from modeler.score.output import Draft, check_output, find_form
from modeler.score.parquet import read_slices
from modeler.score.places import Place, find_place, list_files
from modeler.score.scorer import NAMED, Job, Scorer, describe_answers, write_rows
from modeler.score.source import BLOCK, check_columns, open_parquet
from modeler.score.values import Texts, is_text
from modeler.score.workers import score_pieces
from modeler.service.predictor import Predictor, load_predictor

PART_BLOCKS = 32  # blocks of a .csv file that make one part of an output folder
THREADS = 2  # so many workers are threads, which start at once; more would wait for Python's lock, which texts need
SECONDS = 5  # between two lines about the progress


def score_file(options: SimpleNamespace, say: Callable[[str], None]) -> dict:
    """Score an input as the command's options say, and return what `--json` prints.

    A ModelerError says what is wrong with model, input, output or cluster, or names the first faulty rows; then nothing is
    written.
    """
    started, place, given = time.monotonic(), find_place(options.output), find_place(options.input)
    form, files = find_form(place), list_files(given)
    check_output(place, given, options.overwrite)
    tally = Tally(options.faults, say)
    with _find_hands(options.cluster, given, files) as find_cluster:
        predictor = load_predictor(options.model, sys.maxsize)
        stored = find_model(predictor.tag)
        told = stored.read("provenance.json")["parameters"]["eda.ipynb"]
        source = open_source(given, files, predictor, told)
        parts = next(csv.reader([told.get("columns", "")], skipinitialspace=True), [])
        settled = source.schema.names if source.is_csv else [part.rpartition("=")[0] for part in parts]
        kept = choose_kept(options.keep, source, predictor)
        check_columns(source, predictor, kept, settled)
        job = describe_job(source, predictor, kept, form, options.faults, settled)
        with Draft(place, form, job.schema, predictor.tag) as draft:
            cluster = find_cluster()
            say(f"score      {given.shown} with {predictor.tag}")
            folder = draft.begin()
            reads = cluster and not source.is_csv and (cluster.is_local or not given.is_local)
            writes = reads and form == "folder" and (cluster.is_local or not place.is_local)
            job = replace(job, folder=folder if writes else None)
            pieces = cut_pieces(source, job, predictor.contract, reads, tally)
            if cluster:
                content = {name: (stored.path / name).read_bytes() for name in (GRAPH, CONTRACT, "golden.json")}
                work = score_pieces(cluster, predictor.tag, content, job, pieces)
            else:
                scorer = Scorer(predictor, job)
                work = (scorer.work(*piece) for piece in pieces)
            with closing(work):
                tally.collect(work, draft)
            tally.refuse(given.shown, predictor.tag)
            draft.commit(tally.written)
    seconds = time.monotonic() - started
    return {
        "model": predictor.tag,
        "rows": tally.rows,
        "answered": tally.answered,
        "faults": tally.faults,
        "output": options.output,
        "seconds": round(seconds, 3),
        "rows_per_second": round(tally.rows / seconds),
        "peak_memory": tally.peak,
    }


def open_source(place: Place, files: Sequence[str], predictor: Predictor, told: Mapping):
    """Open an input by its ending, a folder or a pattern as Parquet; `told` are the parameters of the model's eda.ipynb.

    Returns a ParquetSource or a CsvSource.
    """
    if _is_csv(files):
        from modeler.data.dialect import CsvFormat  # late, since it imports pandas, which Parquet does without
        from modeler.score.csv_source import open_csv

        return open_csv(place, files[0], predictor.contract, CsvFormat.from_parameters(told))
    if strange := [path for path in files if not path.lower().endswith(".parquet")]:
        raise UsageError(
            f"{strange[0]} ends in {Path(strange[0]).suffix or 'nothing'}; an input ends in .csv or .parquet"
        )
    return open_parquet(place, files)


def _is_csv(files: Sequence[str]) -> bool:
    return len(files) == 1 and files[0].lower().endswith(".csv")


def choose_kept(told: str | None, source, predictor: Predictor) -> list[str]:
    """The columns of the input that the output keeps: by default those that the model does not use, "all", or those told."""
    names, used = source.schema.names, {feature["name"] for feature in used_features(predictor.contract)}
    if told is None:
        kept = [name for name in names if name not in used]
    elif told == "all":
        kept = names
    else:
        kept = list(dict.fromkeys(next(csv.reader([told], skipinitialspace=True))))
    for name in kept:
        if name not in names:
            raise UsageError(
                f"--keep {name!r} is no column{did_you_mean(name, names)}; the columns are {list_names(names)}"
            )
        if names.count(name) > 1:
            raise ModelerError(
                f"column name {name!r} stands in {source.place.shown} more than once; rename one, or leave it out with --keep"
            )
    if taken := [field.name for field in describe_answers(predictor) if field.name in kept]:
        raise UsageError(
            f"the input has a column {taken[0]!r}, as the answers have; name the columns to keep with --keep, without it"
        )
    return kept


def describe_job(source, predictor: Predictor, kept: Sequence[str], form: str, faults: str, settled) -> Job:
    """What the workers have to know; the output's columns with their types, and with the model's tag."""
    used = {feature["name"]: feature for feature in used_features(predictor.contract)}
    fields = [pa.field(name, _decode(source.schema.field(name).type)) for name in kept]
    schema = pa.schema([*fields, *describe_answers(predictor)], {"model": predictor.tag})
    if form == "csv":
        try:
            write_rows(pa.Table.from_batches([], schema), header=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(
                f"a .csv file cannot hold a column that is kept ({error}); name others with --keep, or write .parquet"
            ) from None
    job = Job(list(dict.fromkeys([*used, *kept])), kept, schema, form, faults)
    if source.is_csv:
        return replace(job, texts=source.texts, written=None)
    coded = [
        name
        for name, feature in used.items()
        if feature["type"] in ("category", "date") and name not in kept
        if all(is_text(schema.field(name).type) for schema in source.schemas.values())
    ]
    texts = Texts(number=_find_number_pattern() if settled else "")
    return replace(job, texts=texts, written=settled, coded=coded, batch_rows=source.batch_rows)


def _decode(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _find_number_pattern() -> str:
    from modeler.data.reading import NUMBER  # late, since it imports pandas

    return NUMBER


def cut_pieces(source, job: Job, contract: dict, reads: bool, tally: "Tally") -> Iterator[tuple]:
    """The work piece by piece, as `Scorer.work` takes it: slices that a worker reads by itself if `reads`, else batches."""
    if source.is_csv:
        first = 0
        for number, block in enumerate(source.read_blocks(job.columns, contract, job.kept)):
            yield number // PART_BLOCKS, first, block, tally.refused
            first += len(block)
        return
    footers = {}
    for part, (first, slices) in enumerate(source.list_chunks()):
        if reads:
            yield part, first, slices, tally.refused
            continue
        for batch in read_slices(slices, job.columns, job.coded, job.batch_rows, footers):
            yield part, first, batch, tally.refused
            first += len(batch)


@contextmanager
def _find_hands(told: str | None, place: Place, files: Sequence[str]) -> Iterator[Callable[[], Cluster | None]]:
    """Begin to start or find a cluster, and give a function that waits for it; for a small input it returns None.

    Then this process does the work: workers would take longer to start.
    """
    size = sum(info.size or 0 for info in place.system.get_file_info(files))
    if told is None and size <= BLOCK:
        yield lambda: None
        return
    threads = 0 if _is_csv(files) else THREADS  # a .csv is read here, with the memory of a worker
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        opening = pool.submit(
            lambda: stack.enter_context(open_cluster(told or "local", size // BLOCK + 1, threads=threads))
        )
        yield opening.result


class Tally:
    """What came of the work so far; `refused` once a fault is known that the options do not allow."""

    def __init__(self, rule: str, say: Callable[[str], None]):
        self._rule, self._say, self._named = rule, say, []
        self.rows = self.answered = self.faults = self.peak = self.written = 0
        self.refused = False

    def collect(self, work: Iterable, draft: Draft) -> None:
        """Take in what is done, in the order of the rows, until it ends or enough faults are known to refuse the input."""
        told = time.monotonic()
        for scored in work:
            self.rows += scored.rows
            self.answered += scored.answered
            self.faults += len(scored.faults)
            self.peak = max(self.peak, scored.peak)
            if self._rule == "refuse" and len(scored.faults):
                self.refused = True
                self._named += scored.faults.slice(0, NAMED - len(self._named)).to_pylist()
                if len(self._named) == NAMED:
                    return
            if not self.refused:
                draft.add(scored.part, scored.answers)
                if self._rule != "refuse":
                    draft.add_faults(scored.faults)
            if time.monotonic() - told >= SECONDS:
                told = time.monotonic()
                self._say(f"  {self.rows} rows")
        self.written = self.rows if self._rule == "blank" else self.answered

    def refuse(self, told: str, model: str) -> None:
        """Raise a ModelerError that names the first faults, if there are any that the options do not allow."""
        if not self.refused:
            return
        few = f"{len(self._named)} fault{'s' if len(self._named) > 1 else ''}"
        first = ", the first" if len(self._named) == NAMED else ""
        raise ModelerError(
            "\n  ".join([
                f"{told} has rows that {model} cannot answer, so nothing was written; --faults skip leaves them out, blank "
                f"leaves their answers empty. {few}{first}, rows counted from 0:",
                *(_tell_fault(**fault) for fault in self._named),
            ])
        )  # fmt: skip


def _tell_fault(row: int, field: str | None, message: str, value: str | None) -> str:
    where = f"row {row}" + (f", {field!r}" if field else "")
    return f"{where}: {message}" + (f", and is {value!r}" if value is not None else "")
