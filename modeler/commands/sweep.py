"""Sweep: execute the notebooks once per combination of parameters, rank them, and retrain with the best."""

import time
from pathlib import Path
from types import SimpleNamespace

import click
from click.core import ParameterSource

from modeler import ModelerError, UsageError
from modeler.commands.combinations import Plan, check_plans, execute_left, list_plans, open_record, prove_best
from modeler.commands.options import OK, REJECTED, TEXT, print_result
from modeler.commands.outcome import describe_result
from modeler.commands.progress import Progress
from modeler.commands.retrain import create_run, relate, retrain_options
from modeler.commands.sampling import find_data, sample_data

FREE = ["cluster", "resume", "dry_run", "yes", "json", "sampled", "force"]  # options that are not what the sweep is
RUNTIME = [
    "cloudpickle",
    "dask",
    "distributed",
    "ipykernel",
    "nbclient",
    "papermill",
]  # of workers, beside a model's own


@click.command(
    help=__doc__,
    short_help="execute the notebooks once per combination, and retrain with the best",
    epilog="Example: python pipeline.py sweep -p n_estimators=50,200 -p seed=0,1",
)
@retrain_options
@click.option(
    "--cluster",
    metavar="ADDRESS|local[:N]",
    type=TEXT,
    default="local",
    help="a Dask scheduler such as tcp://HOST:8786, or N workers on this machine (default: as many as it has cores)",
)
@click.option("--resume", metavar="SWEEP", type=TEXT, help="do what is left of a sweep, by the name of its folder")
@click.option("--dry-run", is_flag=True, help="check and list the combinations, and execute nothing")
@click.option("--yes", is_flag=True, help="allow more than 200 combinations")
@click.pass_context
def sweep(context: click.Context, **given) -> int:
    started, progress, options, project = time.monotonic(), Progress(), SimpleNamespace(**given), context.obj
    if Path(options.data).suffix or options.sample:
        options.data = str(Path(options.data).expanduser().absolute())  # which --resume finds from another folder
    told = _take_over(context, options, project / "runs") if options.resume else None
    notebooks = [project / "notebooks" / name for name in ("eda.ipynb", "train.ipynb")]
    options.sampled = sample_data(options, project / "runs", progress)
    plans = list_plans(options, notebooks)
    if options.dry_run:
        check_plans(plans, notebooks, progress)
        return _print_plans(plans, options.json)
    record, name = _execute(plans, notebooks, options, told, project / "runs", progress)

    from modeler.sweep.page import format_table, write_page

    progress.say(f"page       {relate(write_page(record))}")
    try:
        result, request, checks = prove_best(project, record, plans, notebooks, progress)
    except ModelerError:
        _track(name, plans, record, None, progress)
        raise
    result["seconds"] = round(time.monotonic() - started, 3)
    _track(name, plans, record, result, progress)
    result |= {"sweep": str(record.folder), "combinations": record.rank()}
    told = f"{format_table(record)}\n{describe_result(result, request.table.notes, checks)}"
    print_result(result if options.json else told)
    return REJECTED if result["verdict"] == "rejected" else OK


def _execute(plans: list[Plan], notebooks: list[Path], options, told: dict | None, runs: Path, progress) -> tuple:
    """Execute what is to be done, on the cluster; the sweep's record, and the name of its models."""
    from modeler.cluster.connect import MOST, open_cluster
    from modeler.runs.provenance import list_packages
    from modeler.sweep.record import hold_sweep

    is_built_in = not Path(find_data(options)).suffix
    estimators = {plan.told["train.ipynb"].get("estimator") for plan in plans}
    packages = {}
    for estimator in sorted(estimators, key=str):
        packages |= list_packages(notebooks, estimator, is_built_in)
    with open_cluster(options.cluster, len(plans), sorted({*packages, *RUNTIME}), threads=MOST) as cluster:
        request = check_plans(plans, notebooks, progress)
        kept = {name: value for name, value in vars(options).items() if name not in FREE}
        folder = told["folder"] if told else create_run(runs, None)
        with hold_sweep(folder):
            record = open_record(folder, kept, plans, request, notebooks, packages, told)
            try:
                execute_left(cluster, record, plans, request.data, notebooks, progress)
            except BaseException:
                progress.say(f"resume     python pipeline.py sweep --resume {folder.name}")
                raise
    return record, request.name


def _track(name: str, plans: list[Plan], record, result: dict | None, progress) -> None:
    """Note the combinations where the environment names a server of MLflow."""
    from modeler.runs.tracking import track_sweep

    track_sweep(name, [plan.told for plan in plans], record.combinations, result, progress.say)


def _take_over(context: click.Context, options: SimpleNamespace, runs: Path) -> dict:
    """Set the options to those that a sweep was begun with, and return what its sweep.json says.

    A UsageError names one that is given otherwise.
    """
    from modeler.sweep.record import read_sweep

    told = read_sweep(runs, options.resume)
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.opts}
    for name, was in told["options"].items():
        now = getattr(options, name)
        is_given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if is_given and (list(now) if isinstance(now, tuple) else now) != was:
            raise UsageError(
                f"--resume {options.resume}: {flags[name]} is not what the sweep was begun with; leave it out, or start a "
                "new sweep"
            )
        setattr(options, name, was)
    return told


def _print_plans(plans: list[Plan], as_json: bool) -> int:
    lines = [*(plan.name for plan in plans), f"{len(plans)} combinations"]
    print_result({"combinations": [plan.parameters for plan in plans]} if as_json else "\n".join(lines))
    return OK
