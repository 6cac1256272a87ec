"""Retrain: execute the notebooks, prove the result, and make it the champion of the BentoML store."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import click

from modeler.commands.history import history
from modeler.commands.key import key
from modeler.commands.monitor import monitor
from modeler.commands.options import OK, REJECTED, Commands, print_result, run_command
from modeler.commands.progress import Progress
from modeler.commands.publish import publish_run
from modeler.commands.reproduce import reproduce
from modeler.commands.retrain import WRITES, check_request, create_run, describe_result, relate, retrain_options
from modeler.commands.rollback import rollback
from modeler.commands.sampling import sample_data
from modeler.commands.score import score
from modeler.commands.sweep import sweep
from modeler.commands.verify import verify

ROOT = Path(__file__).resolve().parent
EDA, TRAIN = NOTEBOOKS = ROOT / "notebooks" / "eda.ipynb", ROOT / "notebooks" / "train.ipynb"


@click.group(cls=Commands, invoke_without_command=True, help=__doc__)
@retrain_options
@click.pass_context
def command_line(context: click.Context, **options):
    context.obj = ROOT  # for the other commands
    return retrain(SimpleNamespace(**options)) if context.invoked_subcommand is None else OK


for command in (verify, history, rollback, reproduce, sweep, score, monitor, key):
    command_line.add_command(command)


def retrain(options: SimpleNamespace) -> int:
    """Make a candidate of the data and, if it passes, the champion."""
    started, progress = time.monotonic(), Progress()
    options.sampled = sample_data(options, ROOT / "runs", progress)
    request = check_request(options, NOTEBOOKS, progress)

    from modeler.runs.provenance import describe_provenance

    run = create_run(ROOT / "runs", request.data)
    provenance = describe_provenance(request.table, NOTEBOOKS, request.parameters)  # they may be saved anew meanwhile
    executions, compared = execute_twice(run, request.parameters, int(options.cell_timeout), progress)
    result, checks = publish_run(ROOT, run, request, executions, compared, provenance, options, progress)
    result["seconds"] = round(time.monotonic() - started, 3)
    print_result(result if options.json else describe_result(result, request.table.notes, checks))
    return REJECTED if result["verdict"] == "rejected" else OK


def execute_twice(run: Path, parameters: dict[str, dict], timeout: int, progress: Progress) -> tuple[list, list[int]]:
    """Execute both notebooks with papermill, then both again with nbval; the executions, and the cells compared of each."""
    from modeler.runs.execute import execute_notebook, export_html
    from modeler.runs.replay import reproduce_notebooks

    with ThreadPoolExecutor(1) as background:
        background.submit(import_gate)
        progress.say(f"execute    {EDA.name} and {TRAIN.name} in {relate(run)}")
        with progress:
            executions = [
                execute_notebook(path, run, parameters[path.name], WRITES[path.name], progress, timeout)
                for path in NOTEBOOKS
            ]
        pages = [background.submit(export_html, execution.path) for execution in executions]
        progress.say("reproduce  both again, side by side; every output and file is compared")
        with progress:
            compared = reproduce_notebooks(executions, run, progress, timeout)
    for page in pages:
        page.result()
    return executions, compared


def import_gate() -> None:
    """Import what the gate needs while the first kernel works; it takes seconds, and nothing of it imports Jupyter too."""
    import skops.io  # noqa: F401

    import modeler.gate.judge  # noqa: F401
    from modeler.model.graph import import_runtime

    import_runtime()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(command_line, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
