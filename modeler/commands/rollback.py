"""Make an older version the champion again, once it has answered its golden rows, and withdraw the present one."""

import sys
import time

import click

from modeler.commands.options import DEFAULT_NAME, MODEL_NAME, OK, TEXT, print_result
from modeler.commands.outcome import RELOAD


@click.command(
    help=__doc__,
    short_help="make an older version the champion again",
    epilog="Example: python pipeline.py rollback orders --to 8a50529a7c3cd1ea",
)
@click.argument("name", type=MODEL_NAME, default=DEFAULT_NAME)
@click.option("--to", metavar="VERSION", type=TEXT, help="the version (default: the champion before, not withdrawn)")
def rollback(name: str, to: str | None) -> int:
    from modeler.service.predictor import load_predictor
    from modeler.store.publish import roll_back

    started = time.monotonic()
    event = roll_back(name, to, lambda model: load_predictor(model.tag, sys.maxsize))
    seconds = time.monotonic() - started
    lines = [f"{name}:{event['version']} is the champion again, its golden rows answered, in {seconds:.1f} s"]
    if event["before"]:
        lines.append(f"  withdrawn  {name}:{event['before']}; a retrain promotes it with --readmit alone")
    print_result("\n".join([*lines, f"  {RELOAD}"]))
    return OK
