"""The retrain's options, and what is checked of them before any kernel starts."""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

from click_option_group import optgroup

from modeler import ModelerError, UsageError
from modeler.commands.options import ROWS, SECONDS, TEXT, Choice
from modeler.commands.sampling import check_target, describe_sample, find_data
from modeler.runs.execute import CELL_TIMEOUT
from modeler.runs.parameters import check_parameters, read_parameters

NEEDS = {"eda.ipynb": ["data", "target", "split_by", "split_time", "holdout", "out"], "train.ipynb": ["data", "out"]}
WRITES = {"eda.ipynb": ["contract.json"], "train.ipynb": ["model.onnx", "model.skops", "metrics.json"]}
RESERVED = {"data": "--data", "target": "--target", "split_by": "--split-by", "split_time": "--split-time"}
RESERVED |= {"out": "the run itself"}


@dataclass(frozen=True)
class Request:
    """A retrain that can be executed: `data` is a file or None, `table` what it holds, of whose rows `heldout` is true for those
    held out; `parameters` stand by notebook. `file_sha256` is of the file's bytes, `started` of the clock `time.monotonic`."""

    parameters: dict[str, dict]
    data: Path | None
    table: object
    heldout: object
    floors: dict[str, float]
    ceilings: dict[str, float]
    name: str
    file_sha256: str | None
    started: float

    @property
    def asked(self) -> dict:
        """What provenance.json notes beside table and parameters, which tells whether anything changed since."""
        return {name: getattr(self, name) for name in ("name", "file_sha256", "floors", "ceilings")}

    @property
    def told(self) -> dict:
        """The parameters of both notebooks."""
        return self.parameters["eda.ipynb"] | self.parameters["train.ipynb"]


def retrain_options(command):
    """The options of a retrain, in groups."""
    flag = {"is_flag": True}
    repeatable = {"multiple": True, "metavar": "METRIC=VALUE"}
    for decorate in reversed([
        optgroup.group("The data"),
        optgroup.option("--data", metavar="NAME|FILE", type=TEXT, default="breast_cancer",
            help="breast_cancer (built in, the default), or a .csv or .parquet file"),
        optgroup.option("--target", metavar="COLUMN", type=TEXT,
            help="the column to predict (with a file: required)"),
        optgroup.option("--name", metavar="NAME", type=TEXT,
            help="the model's name in the store (default: the data's name, as a slug)"),
        optgroup.option("--split-by", metavar="COLUMN", type=TEXT,
            help="keep rows that share this value on one side of the split"),
        optgroup.option("--split-time", metavar="COLUMN", type=TEXT,
            help="hold out the latest rows by this date or number, instead of a random share"),
        optgroup.option("--sample", metavar="ROWS", type=ROWS,
            help="train on about so many rows of a file or of a folder of Parquet files too large for memory, by their hash"),
        optgroup.group("The notebooks"),
        optgroup.option("-p", "--param", metavar="KEY=VALUE", multiple=True, help="a notebook parameter, repeatable"),
        optgroup.option("--cell-timeout", metavar="SECONDS", type=SECONDS, default=str(CELL_TIMEOUT),
            help=f"how long one cell may run (default: {CELL_TIMEOUT})"),
        optgroup.group("The gate"),
        optgroup.option("--min", "floors", **repeatable, help="a floor, repeatable: accuracy, balanced_accuracy, "
            "roc_auc, average_precision, f1_macro, recall:CLASS, precision:CLASS; r2, coverage"),
        optgroup.option("--max", "ceilings", **repeatable, help="a ceiling, repeatable: log_loss; mae, rmse, interval_width"),
        optgroup.option("--promote-if", type=Choice(["not-worse", "better"]), default="not-worse",
            help="the rule against the champion, by the 95 % interval of the gain in roc_auc or, of values, in rank "
            "correlation and error: none wholly below -0.01, or one wholly above 0 and a gain in the other (default: not-worse)"),
        optgroup.option("--allow-contract-change", **flag, help="promote although callers of the champion would break"),
        optgroup.option("--allow-lower-score", **flag,
            help="promote although the score is clearly lower than the champion's was when it was promoted"),
        optgroup.option("--readmit", **flag, help="promote a version that was rolled back from"),
        optgroup.group("What comes of it"),
        optgroup.option("--force", **flag, help="execute although nothing changed since the champion was made"),
        optgroup.option("--build", **flag, help="also build the champion's bento, and replay the golden rows there"),
        optgroup.option("--containerize", **flag,
            help="also build the bento and its image, and replay the golden rows there"),
        optgroup.option("--json", **flag, help="print one JSON object and nothing else on standard output"),
    ]):  # fmt: skip
        command = decorate(command)
    return command


def check_request(options: SimpleNamespace, notebooks: Sequence[Path], progress) -> Request:
    """Check the options, load the data and hold the one to the other; see that store and engine are there."""
    started, (data, parameters) = time.monotonic(), read_options(options, notebooks)

    from modeler.runs.provenance import hash_data
    from modeler.store.lock import check_writable

    sha256 = hash_data(data)  # before the file is read, as it may be written anew meanwhile
    table, heldout = load_data(options, parameters["eda.ipynb"], progress.say)
    floors, ceilings = check_fit(options, parameters, table, heldout)
    check_writable()
    if address := parameters["train.ipynb"].get("cluster"):
        from modeler.cluster.connect import check_cluster

        check_cluster(address)
    if options.containerize:
        from modeler.ship.build import check_engine

        check_engine()
    return Request(parameters, data, table, heldout, floors, ceilings, options.name or table.name, sha256, started)


def read_options(options: SimpleNamespace, notebooks: Sequence[Path]) -> tuple[Path | None, dict[str, dict]]:
    """The data file, None for built-in data, and every parameter; a UsageError where an option is wrong by itself."""
    from modeler.model.stored import slugify

    if Path(options.data).suffix:
        check_target(options)
    given = Path(find_data(options)).expanduser()
    data = given if given.suffix else None
    parameters = collect_parameters(options, data, notebooks)
    if options.name and options.name != slugify(options.name):
        example = slugify(options.name) or "orders"
        raise UsageError(f"--name {options.name}: a model's name is of a-z, 0-9 and _, at most 40, such as {example}")
    return data, parameters


def load_data(options: SimpleNamespace, told: dict, say: Callable[[str], None]) -> tuple:
    """The table as the parameters of eda.ipynb want it, and one boolean a row: whether it is held out."""
    from modeler.data.dialect import CsvFormat
    from modeler.data.rare import settle_rare_classes
    from modeler.data.rows import check_split, list_dealing, split_rows
    from modeler.data.tables import load_table, warn_of_leaks
    from modeler.data.timeline import note_time

    dealing = _, by, time = list_dealing(told)
    table = load_table(
        find_data(options), options.target or "", told.get("task", "auto"), CsvFormat.from_parameters(told)
    )
    if by == table.target:
        raise UsageError(f"--split-by {by}: this is the target; name a column such as a patient id")
    if time == table.target:
        raise UsageError(f"--split-time {time}: this is the target; name a column such as a date")
    table = settle_rare_classes(table, told.get("rare_classes", "refuse"), *dealing)
    heldout = split_rows(table.frame, *dealing)
    sample = describe_sample(options)
    notes = ["a sample of {rows:,} of the {of:,} rows of {from}, by their hash".format(**sample)] if sample else []
    table = replace(table, notes=(*notes, *table.notes, *note_time(table, heldout, by, time)), sample=sample)
    say(f"data       {table.name}, {len(table.frame)} rows, {table.frame.shape[1]} columns")
    for note in [*table.notes, *warn_of_leaks(table)]:
        say(f"           {note}")
    check_split(table, heldout, time)
    return table, heldout


def check_fit(options: SimpleNamespace, parameters: dict[str, dict], table, heldout) -> tuple[dict, dict]:
    """The gate's floors and ceilings; a UsageError where an option or a parameter does not fit the table."""
    from modeler.data.derive import list_classes, read_columns
    from modeler.gate.bounds import check_bounds, find_floors

    told, classes = parameters["eda.ipynb"], list_classes(table)
    check_training(parameters["train.ipynb"], table, classes)
    check_certainty(parameters["train.ipynb"], classes, table.target, int((~heldout).sum()))
    read_columns(told.get("leave_out", ""), table)
    check_positive(told.get("positive", ""), classes, table.target)
    has_interval = bool(parameters["train.ipynb"].get("interval"))
    ceilings = check_bounds(options.ceilings, "--max", classes, has_interval)
    floors = check_bounds(options.floors, "--min", classes, has_interval)
    return find_floors(options.data, table.target) | floors, ceilings


def collect_parameters(options: SimpleNamespace, data: Path | None, notebooks: Sequence[Path]) -> dict[str, dict]:
    """Every parameter of each notebook, defaults and overrides, typed and checked.

    A data file is linked into the run's folder, so that the notebooks name no path of this machine.
    """
    known = {path.name: read_parameters(path) for path in notebooks}
    for file, names in NEEDS.items():
        if missing := [name for name in names if name not in known[file]]:
            raise ModelerError(
                f"{file} lacks the parameter {missing[0]}, which the pipeline relies on; "
                "restore its line in the cell tagged `parameters`"
            )
    given = check_parameters(options.param, known, RESERVED)
    given |= {"data": data.name if data else options.data, "target": options.target or "", "out": "."}
    given |= {"split_by": options.split_by or "", "split_time": options.split_time or ""}
    return {
        file: {name: given.get(name, parameter.default) for name, parameter in known[file].items()} for file in known
    }


def check_training(told: dict, table, classes: list | None) -> None:
    """Raise a UsageError if a parameter of train.ipynb does not fit the target, a ModelerError if a package lacks."""
    from modeler.train.boosters import check_installed
    from modeler.train.choices import check_class_weight, check_transform

    check_installed(told.get("estimator", ""))
    check_threshold(told.get("threshold", ""), classes, table.target)
    check_class_weight(told.get("class_weight", ""), told.get("estimator", ""), classes, table.target)
    check_transform(told.get("target_transform", ""), table.frame[table.target], classes, table.target)


def check_threshold(rule: str, classes: list | None, target: str) -> None:
    """Raise a UsageError if a threshold is to be chosen where there are not two classes."""
    if re.match("auto|recall:", str(rule)) and len(classes or []) != 2:
        what = f"{len(classes)} classes" if classes else "values"
        raise UsageError(
            f"-p threshold={rule}: only of two classes one is answered from a threshold on, and {target!r} has {what}; leave it out"
        )


def check_certainty(told: dict, classes: list | None, target: str, trained: int) -> None:
    """Raise a UsageError if values are to be calibrated, or classes to have an interval, or that needs more training rows."""
    from modeler.train.interval import check_rows

    calibrate, interval = told.get("calibrate", "none"), told.get("interval", 0)
    if calibrate != "none" and not classes:
        raise UsageError(
            f"-p calibrate={calibrate}: only classes have probabilities, and {target!r} has values; leave it out, or give "
            "each value an interval with -p interval=0.9"
        )
    if interval and classes:
        raise UsageError(
            f"-p interval={interval:g}: only values have an interval, and {target!r} has {len(classes)} classes; leave it "
            "out, or make their probabilities right with -p calibrate=isotonic"
        )
    if interval:
        try:
            check_rows(interval, trained)
        except ModelerError as error:
            raise UsageError(f"-p interval={interval:g}: {error}") from None


def check_positive(positive: str, classes: list | None, target: str) -> None:
    """Raise a UsageError unless the class looked for is one of two, or none was told."""
    from modeler.model.contract import class_key

    keys = [class_key(label) for label in classes or []]
    if positive and (len(keys) != 2 or positive not in keys):
        among = f"one of {' and '.join(keys)}" if len(keys) == 2 else f"left out: {target!r} has not two classes"
        raise UsageError(f"-p positive={positive}: the class looked for must be {among}")


def create_run(runs: Path, data: Path | None, name: str = "") -> Path:
    """Make the folder of a new run, named by the time and the process, with a link to the data file, by its name or another."""
    run = runs / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{os.getpid()}"
    try:
        run.mkdir(parents=True)
        if data:
            (run / (name or data.name)).symlink_to(data.resolve())
    except OSError as error:
        raise ModelerError(
            f"the run's folder {run} cannot be made: {error.strerror}; make room or permit writing there"
        ) from None
    return run


def relate(path: Path | str) -> str:
    """A path as a person in the current folder writes it."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
