"""The option --sample: rows of data too large to train on, in a file that is then trained on like any other."""

from pathlib import Path
from types import SimpleNamespace

from modeler import UsageError


def sample_data(options: SimpleNamespace, runs: Path, progress):
    """The sample that the options ask for, or None; a UsageError or a ModelerError: there is nothing to take it from."""
    if not options.sample:
        return None
    source = Path(options.data).expanduser()
    if not (source.is_file() or source.is_dir()):
        raise UsageError(
            f"--sample {options.sample}: {options.data} is no .csv or .parquet file and no folder of Parquet files; name one with --data"
        )
    check_target(options)
    from modeler.data.dialect import CsvFormat
    from modeler.data.sample import SAMPLES, take_sample
    from modeler.data.tables import ENDINGS

    if source.is_file() and source.suffix.lower() not in ENDINGS:
        raise UsageError(f"--sample {options.sample}: {options.data} ends in neither {' nor '.join(ENDINGS)}")
    written = CsvFormat.from_parameters(dict(pair.split("=", 1) for pair in options.param if "=" in pair))
    progress.say(f"sample     about {int(options.sample):,} rows of {options.data}, by their hash")
    return take_sample(source, int(options.sample), options.split_by or "", written, runs / SAMPLES)


def check_target(options: SimpleNamespace) -> None:
    """Raise a UsageError if a file or a folder comes without a column to predict."""
    if not options.target:
        raise UsageError(f"--data {options.data} needs --target COLUMN, the column to predict")


def find_data(options: SimpleNamespace) -> str:
    """What is loaded: the sample, or the data as told."""
    sampled = getattr(options, "sampled", None)
    return str(sampled.path) if sampled else options.data


def describe_sample(options: SimpleNamespace) -> dict | None:
    """The sample for provenance.json: the rows asked for, those it has, of how many, and the name of what they are from."""
    if not (sampled := getattr(options, "sampled", None)):
        return None
    asked = {"asked": int(options.sample), "by": options.split_by or None}
    return asked | {"rows": sampled.rows, "of": sampled.of, "from": Path(options.data).name}
