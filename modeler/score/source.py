"""The file or files that are scored: their columns, whether these fit the contract, and their rows piece by piece."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet

from modeler import ModelerError, did_you_mean, first_line
from modeler.model.contract import used_features
from modeler.score.parquet import Slice
from modeler.score.places import Place
from modeler.score.values import fits
from modeler.service.body import describe_values
from modeler.service.predictor import Predictor

ENOUGH_ROWS = 1 << 17  # of small row groups make one piece of work, and one part of an output folder
CHUNK_ROWS, CHUNK_BYTES = 1 << 19, 1 << 27  # from here on a row group is cut; what stands before is read twice
BATCH_ROWS, BATCH_BYTES = 1 << 15, 1 << 25  # what it answers at once
BLOCK = 1 << 24  # bytes of a .csv file that are read and answered at once; the longest row a file may have
FEW_COLUMNS = 1_000  # of a file whose columns are not worth counting
FOOTERS = 16  # files whose ends are read at once


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files: the types of their columns by file where these differ, and path, number, rows and bytes of each row group."""

    is_csv = False
    place: Place
    schemas: dict[str, pa.Schema]
    groups: list[tuple[str, int, int, int]]

    @property
    def schema(self) -> pa.Schema:
        return next(iter(self.schemas.values()))

    @property
    def batch_rows(self) -> int:
        """A power of two, so that batches end where pieces of work do."""
        return 1 << (min(BATCH_ROWS, max(1, BATCH_BYTES // self._row_bytes)).bit_length() - 1)

    @property
    def _row_bytes(self) -> int:
        return max([1, *(size // rows for _, _, rows, size in self.groups if rows)])

    def list_chunks(self) -> Iterator[tuple[int, list[Slice]]]:
        """The pieces of work, each with the number of its first row: whole row groups, or parts of one that is large.

        They depend on the files alone, and so do the parts that are written of them.
        """
        most = max(1, min(CHUNK_ROWS, CHUNK_BYTES // self._row_bytes) // self.batch_rows) * self.batch_rows
        first, waiting, chunk = 0, 0, []
        for path, group, rows, _ in self.groups:
            for offset in range(0, rows, most):
                taken = min(most, rows - offset)
                if chunk and waiting + taken > min(most, ENOUGH_ROWS):
                    yield first, chunk
                    first, waiting, chunk = first + waiting, 0, []
                chunk.append(Slice(self.place.told, path, group, offset, taken))
                waiting += taken
        if chunk:
            yield first, chunk


def open_parquet(place: Place, files: Sequence[str]) -> ParquetSource:
    """Read what stands at the end of each file; a ModelerError names one that is no Parquet, or is cut off."""

    def look(path: str) -> pa.parquet.FileMetaData:
        try:
            with place.system.open_input_file(path) as file:
                return pa.parquet.read_metadata(file)
        except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
            raise ModelerError(
                f"{path} cannot be read as Parquet: {first_line(error)}; mend the file, or leave it out"
            ) from None

    schemas, groups = {}, []
    with ThreadPoolExecutor(FOOTERS) as pool:
        for path, metadata in zip(files, pool.map(look, files)):
            schema = metadata.schema.to_arrow_schema().remove_metadata()
            if len(schema) > FEW_COLUMNS:
                from modeler.data.limits import check_names  # late, since it imports pandas

                check_names(path, schema.names)
            if schema not in schemas.values():
                schemas[path] = schema
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                groups.append((path, number, group.num_rows, group.total_byte_size))
    return ParquetSource(place, schemas, groups)


def check_columns(source, predictor: Predictor, kept: Sequence[str], settled: Sequence[str]) -> None:
    """Raise a ModelerError with every fault of an input's columns, before any of its rows is looked at.

    A text in a column of numbers, or of dates, is a matter of each row. `settled` columns have the type that a person told.
    """
    faults, features = [], used_features(predictor.contract)
    for path, schema in source.schemas.items():
        where = f" in {path}" if len(source.schemas) > 1 else ""
        for feature in features:
            if fault := _find_fault(feature, schema, feature["name"] in settled):
                faults.append(f"{feature['name']!r}{where} {fault}")
        for name in kept:
            faults += _find_change(name, schema, source.schema, where)
    if faults:
        few = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise ModelerError(
            "\n  ".join(
                [
                    f"the columns of {source.place.shown} do not fit {predictor.tag} (--model names another), {few}:",
                    *faults,
                ]
            )
        )


def _find_fault(feature: dict, schema: pa.Schema, settled: bool) -> str | None:
    name = feature["name"]
    count = schema.names.count(name)
    if count != 1:
        near = did_you_mean(name, schema.names) if count == 0 else ""
        told = "is missing" if count == 0 else f"stands there {count} times"
        return f"{told}{near}; it must be {describe_values(feature)}"
    kind = schema.field(name).type
    if fits(kind, feature) or (settled and not pa.types.is_nested(kind)):
        return None
    return f"has values of the type {kind}; it must be {describe_values(feature)}"


def _find_change(name: str, schema: pa.Schema, first: pa.Schema, where: str) -> list[str]:
    if name not in schema.names:
        return [f"{name!r}{where} is missing, which is to be kept"]
    kinds = schema.field(name).type, first.field(name).type
    return (
        [] if kinds[0] == kinds[1] else [f"{name!r}{where} has the type {kinds[0]}, and {kinds[1]} in the first file"]
    )
