"""What a table may not exceed: the number of its columns, the length of their names, and the memory that is free."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from modeler import ModelerError, first_line
from modeler.linux import limit_memory, read_spare_memory

# A retrain's peak memory in bytes: a constant, plus 10.5 per byte of a .csv file or of a Parquet file's cells, at 8 bytes
# each (benchmarks/scale.py: 1.3 GB for a file of 0.025 GB, 3.6 GB for one of 0.25 GB).
OWN_NEED, BYTE_NEED = 1_050_000_000, 10.5
MOST_COLUMNS = 10_000
LONGEST_NAME = 1_000  # characters
HEADER = 1 << 24  # characters of a .csv file that hold its header, as long as the names may be


def check_memory(path: Path, size: int) -> None:
    """Raise a ModelerError unless a retrain on so many bytes of cells fits into the memory that is free."""
    need, free = OWN_NEED + BYTE_NEED * size, _find_free()
    if need > free:
        raise ModelerError(
            f"{path} has {path.stat().st_size / 1e9:.1f} GB; a retrain on it needs about {need / 1e9:.0f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free. Train on a sample of its rows with --sample ROWS, leave out columns, or take a larger machine"
        )


@contextmanager
def bound_memory(path: Path) -> Iterator[None]:
    """Read a file whose few bytes may stand for very many; a ModelerError once these fill the memory that is free."""
    free = _find_free()
    try:
        with limit_memory(free):
            yield
    except MemoryError:
        raise ModelerError(
            f"the cells of {path} do not fit into the {free / 1e9:.1f} GB of memory that are free; leave out columns, "
            "or take a larger machine"
        ) from None


def count_bytes(table: pa.Table) -> int:
    """The bytes of a table's cells, with every text as often as it stands there."""
    size = table.nbytes
    for column in table.columns:
        if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
            for part in column.chunks:
                size += pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() or 0
    return size


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise a ModelerError if there are too many columns, or the name of one is no name."""
    if len(names) > MOST_COLUMNS:
        raise ModelerError(
            f"{path} has {len(names):,} columns or more; a table may have {MOST_COLUMNS:,}. Leave out columns, or put each row on a "
            "line of its own"
        )
    for position, name in enumerate(names, start=1):
        if len(name) > LONGEST_NAME:
            raise ModelerError(
                f"the name of column {position} of {path} has {len(name):,} characters or more, {name[:60]!r}; shorten it to "
                f"{LONGEST_NAME:,}, or close its quotes"
            )


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Raise a ModelerError if two columns have one name."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ModelerError(f"column name {repeated[0]!r} stands in {path} more than once; rename or remove one")


def explain_csv(error: Exception, block: int) -> str:
    """What Arrow or Python says of a .csv file that cannot be read in blocks of so many bytes, for a message."""
    if "straddling" in str(error):
        return f"a row is longer than {block / 1e6:.0f} MB, as where a quote is never closed"
    return first_line(error)


def _find_free() -> float:
    return min(psutil.virtual_memory().available, read_spare_memory())
