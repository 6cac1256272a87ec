"""Monitor: has a deployed model drifted, and is it still right? Execute monitor.ipynb on its log, or on a table."""

from pathlib import Path

import click

from modeler import ModelerError, UsageError
from modeler.commands.options import DEFAULT_NAME, DRIFT, OK, TEXT, print_result
from modeler.commands.progress import Progress
from modeler.commands.retrain import create_run, relate


@click.command(
    help=__doc__,
    short_help="compare what a model was asked with its training, and its answers with what came true",
    epilog="Example: python pipeline.py monitor orders --log log --labels shipped.csv --since 2026-11-01\n\nExit status: 0 "
    "steady, or too few rows to say; 4 drifted, or clearly worse than on the hold-out.",
)
@click.argument("name", metavar="[NAME[:VERSION]]", type=TEXT, default=DEFAULT_NAME)
@click.option("--log", metavar="FOLDER", type=TEXT, help="the folder of the service's prediction log")
@click.option(
    "--data", metavar="FILE", type=TEXT, help="a .csv or .parquet file of rows instead; also what `score` wrote"
)
@click.option(
    "--labels",
    metavar="FILE",
    type=TEXT,
    help="a .csv or .parquet file of what came true: the target, and request_id and row, or a column that --data has too",
)
@click.option(
    "--since",
    metavar="TIME",
    type=TEXT,
    help="rows from this time on, such as 2026-11-01 or 2026-11-01T06:00, in UTC",
)
@click.option("--until", metavar="TIME", type=TEXT, help="rows before this time")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object and nothing else on standard output")
@click.pass_obj
def monitor(root: Path, name: str, log: str | None, data: str | None, as_json: bool, **options) -> int:
    from modeler.model.stored import load_model
    from modeler.monitor.compare import read_reference
    from modeler.monitor.rows import find_log
    from modeler.runs.execute import execute_page

    given = {"log": log, "data": data, "labels": options["labels"]}
    period = {bound: options[bound] or "" for bound in ("since", "until")}
    check_options(given, **period)
    model, progress = load_model(name), Progress()
    read_reference(model)
    if log:
        given["log"] = find_log(Path(log).expanduser(), model.name)
    run = create_run(root / "runs", None)
    parameters = period | {"out": "."} | link_inputs(run, {"model": model.path} | given)
    progress.say(f"monitor    {model.tag}: monitor.ipynb in {relate(run)}")
    with progress:
        report = execute_page(root / "notebooks" / "monitor.ipynb", run, parameters, "drift.json", progress)
    print_result(report | {"run": str(run)} if as_json else describe_report(report, run))
    return DRIFT if report["verdict"] == "drifted" else OK


def check_options(given: dict[str, str | None], since: str, until: str) -> None:
    """Raise a UsageError for rows that are nowhere or in two places, files that are missing, and times that are none."""
    from modeler.monitor.rows import read_moment

    if bool(given["log"]) == bool(given["data"]):
        raise UsageError("monitor looks at the rows of either --log FOLDER or --data FILE; give one of them")
    for option in ("data", "labels"):
        if given[option] and not Path(given[option]).expanduser().is_file():
            raise UsageError(f"--{option} {given[option]}: there is no such file")
    moments = []
    for option, text in (("since", since), ("until", until)):
        try:
            moments.append(read_moment(text))
        except ModelerError as error:
            raise UsageError(f"--{option}: {error}") from None
    if all(moments) and moments[0] >= moments[1]:
        raise UsageError(f"--since {since} is not before --until {until}, so no row can be meant")


def link_inputs(run: Path, inputs: dict[str, str | Path | None]) -> dict[str, str]:
    """Link what the notebook reads into its run's folder, so that it names no path of this machine; the names there."""
    links = {}
    for name, path in inputs.items():
        if path:
            path = Path(path).expanduser().resolve()
            (run / name).mkdir()
            (run / name / path.name).symlink_to(path)
            links[name] = name if name == "log" else f"{name}/{path.name}"  # a log's folder has the name of its model
    return links


def describe_report(report: dict, run: Path) -> str:
    """What came of it, for a person: the verdict and its reasons, and where to read on."""
    span = f", {report['since']} to {report['until']}" if report["since"] else ""
    return "\n".join([
        f"{report['model']} {report['verdict']}: {report['rows']:,} rows{span}",
        *(f"  {'' if number else 'because':10} {reason}" for number, reason in enumerate(report["reasons"])),
        *(f"  {'' if number else 'note':10} {note}" for number, note in enumerate(report["notes"])),
        *describe_metrics(report["metrics"] or {}),
        f"  report     {relate(run / 'monitor.html')}",
    ])  # fmt: skip


def describe_metrics(metrics: dict) -> list[str]:
    """The scores on one line: now, and on the hold-out."""
    scores = [f"{name} {one['value']:.3f} ({one['held_out']:.3f})" for name, one in metrics.items()]
    return [f"  scores     {', '.join(scores)}; in brackets on the hold-out"] if scores else []
