"""Dates: read from the texts that callers send, and turned into the numbers a model sees, the same way at every hop."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache

PARTS = ("days", "year", "month", "day", "weekday", "hour")
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)
LONGEST = 40  # characters of a text that may be a date
ISO = "%Y-%m-%d"  # how every format in ISO 8601 begins


def name_parts(feature: dict) -> list[str]:
    """The names of the numbers that a model sees of a date, such as `sold.days`; `sold.hour` only with a time of day."""
    return [f"{feature['name']}.{part}" for part in (PARTS if feature["time"] else PARTS[:-1])]


def count_date(moment, time: bool) -> tuple:
    """The numbers of a moment: days since 1970-01-01 with the fraction of the day, year, month, day of month, weekday
    (Monday 0) and, with `time`, the hour.

    `moment` is in microseconds since 1970-01-01 in UTC: a whole number, or an int64 array of them. The calendar is the
    proleptic Gregorian one (H. Hinnant, chrono-Compatible Low-Level Date Algorithms, `civil_from_days`).
    """
    days, rest = moment // DAY, moment % DAY
    shifted = days + 719_468  # since 0000-03-01
    era, of_era = shifted // 146_097, shifted % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153  # from March, 0
    numbers = (
        days + rest / DAY,
        year + 400 * era + (month >= 10),
        (month + 2) % 12 + 1,
        of_year - (153 * month + 2) // 5 + 1,
        (days + 3) % 7,
    )
    return (*numbers, rest // HOUR) if time else numbers


def read_date(text: str, feature: dict) -> int:
    """Microseconds since 1970-01-01 in UTC of a text that a caller sends for a feature of the type date.

    The text is in ISO 8601, or as the data had it. A ValueError says what is wrong with it, as the end of "2025-02-30 …".
    """
    return _read(text, feature["format"], feature["time"]) if len(text) <= LONGEST else _refuse()


def count_value(value: str | None, feature: dict) -> tuple:
    """The numbers of one value as a caller sends it; null gives NaN in each."""
    if value is None or value != value:
        return (float("nan"),) * len(name_parts(feature))
    return count_date(read_date(value, feature), feature["time"])


def count_column(values: Sequence, feature: dict):
    """The numbers of a column, float32 of shape (rows, parts): `values` are datetime64, in UTC, or what callers send."""
    import numpy as np  # late: BentoML's parent process reads the contract without it

    moments = np.asarray(values)
    if moments.dtype.kind != "M":
        read = [None if value is None or value != value else read_date(value, feature) for value in values]
        moments = np.array(read, dtype="datetime64[us]")
    counted = count_date(moments.astype("datetime64[us]").astype("int64"), feature["time"])
    numbers = np.stack(counted, axis=1).astype(np.float32)
    numbers[np.isnat(moments)] = np.nan
    return numbers


def write_date(moment: datetime, time: bool) -> str:
    """A moment in UTC as an ISO 8601 text: 2026-03-01, or with a time of day 2026-03-01T14:30:00Z."""
    return f"{moment.isoformat()}Z" if time else moment.isoformat()[:10]


def show_date(feature: dict) -> str:
    """An example of a date, in ISO 8601 and, where the data had another format, in that one too."""
    example, form = feature["example"] or feature["min"], feature["format"]
    return example if form.startswith(ISO) else f"{example} or {datetime.fromisoformat(example).strftime(form)}"


@lru_cache(maxsize=10_000)
def _read(text: str, form: str, time: bool) -> int:
    try:
        moment = datetime.fromisoformat(text) if text[4:5] == "-" else datetime.strptime(text, form)
        if moment.tzinfo:
            moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        _refuse(error)
    read = (moment - EPOCH) // MICROSECOND
    if not time and read % DAY:
        raise ValueError("has a time of day, where the data have days")
    return read


def _refuse(error: Exception | None = None):
    told = str(error)
    if "out of range" in told or "must be in" in told:
        raise ValueError(f"does not exist: {told}") from None
    raise ValueError("is no date") from None
