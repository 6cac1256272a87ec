"""Retrain: execute the notebooks, prove the result, and make it the champion of the BentoML store."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import click

from modeler.commands.compare import compare
from modeler.commands.history import history
from modeler.commands.key import key
from modeler.commands.monitor import monitor
from modeler.commands.options import OK, REJECTED, Commands, print_result, run_command
from modeler.commands.outcome import describe_result, describe_unchanged
from modeler.commands.progress import Progress
from modeler.commands.prune import prune
from modeler.commands.publish import import_gate, publish_run
from modeler.commands.reproduce import reproduce
from modeler.commands.retrain import WRITES, check_request, create_run, relate, retrain_options
from modeler.commands.rollback import rollback
from modeler.commands.runs import runs
from modeler.commands.sampling import sample_data
from modeler.commands.score import score
from modeler.commands.sweep import sweep
from modeler.commands.unchanged import find_unchanged
from modeler.commands.verify import verify

ROOT = Path(__file__).resolve().parent
NOTEBOOKS = ROOT / "notebooks" / "eda.ipynb", ROOT / "notebooks" / "train.ipynb"


@click.group(cls=Commands, invoke_without_command=True, help=__doc__)
@retrain_options
@click.pass_context
def command_line(context: click.Context, **options):
    context.obj = ROOT  # for the other commands
    return retrain(SimpleNamespace(**options)) if context.invoked_subcommand is None else OK


for command in (verify, history, rollback, reproduce, sweep, score, monitor, key, runs, prune, compare):
    command_line.add_command(command)


def retrain(options: SimpleNamespace) -> int:
    """Make a candidate of the data and, if it passes, the champion."""
    started, progress = time.monotonic(), Progress()
    options.sampled = sample_data(options, ROOT / "runs", progress)
    if not options.force and (result := find_unchanged(ROOT, NOTEBOOKS, options, progress)):
        return finish(result, started, options.json, describe_unchanged)
    request = check_request(options, NOTEBOOKS, progress)

    from modeler.model.contract import write_json
    from modeler.runs.earlier import find_eda
    from modeler.runs.ending import note_failure
    from modeler.runs.provenance import describe_provenance
    from modeler.runs.tracking import track_failure, track_retrain

    run = create_run(ROOT / "runs", request.data)
    with note_failure(run), track_failure(request.name, request.parameters, run, progress.say):
        provenance = describe_provenance(request.table, NOTEBOOKS, request.parameters) | request.asked
        earlier = None if options.force else find_eda(ROOT / "runs", NOTEBOOKS[0], provenance)
        provenance["eda_from"] = earlier and earlier.name
        write_json(run / "provenance.json", provenance)  # before: notebooks may be saved anew, and runs may fail
        executions, compared = execute_twice(run, request.parameters, int(options.cell_timeout), progress, earlier)
        result, checks = publish_run(ROOT, run, request, executions, compared, provenance, options, progress)
    track_retrain(request.name, request.parameters, result | {"seconds": time.monotonic() - started}, progress.say)
    return finish(result, started, options.json, lambda told: describe_result(told, request.table.notes, checks))


def finish(result: dict, started: float, as_json: bool, describe: Callable[[dict], str]) -> int:
    """Print what came of a retrain; its exit status."""
    result["seconds"] = round(time.monotonic() - started, 3)
    print_result(result if as_json else describe(result))
    return REJECTED if result["verdict"] == "rejected" else OK


def execute_twice(
    run: Path, parameters: dict[str, dict], timeout: int, progress: Progress, earlier: Path | None = None
) -> tuple[list, list[int]]:
    """Execute both notebooks with papermill, eda.ipynb unless an earlier run did with the same inputs, then both again with
    nbval; the executions, and the cells compared of each."""
    from modeler.runs.earlier import keep_eda, take_over
    from modeler.runs.execute import execute_notebook, export_html
    from modeler.runs.replay import reproduce_notebooks

    with ThreadPoolExecutor(1) as background:
        background.submit(import_gate)
        executions = [take_over(earlier, run, progress)] if earlier else []
        progress.say(f"execute    {' and '.join(path.name for path in NOTEBOOKS[len(executions) :])} in {relate(run)}")
        with progress:
            executions += [
                execute_notebook(path, run, parameters[path.name], WRITES[path.name], progress, timeout)
                for path in NOTEBOOKS[len(executions) :]
            ]
        pages = [background.submit(export_html, execution.path) for execution in executions]
        progress.say("reproduce  both again, side by side; every output and file is compared")
        with progress:
            compared = reproduce_notebooks(executions, run, progress, timeout)
    for page in pages:
        page.result()
    keep_eda(run, executions)
    return executions, compared


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(command_line, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
