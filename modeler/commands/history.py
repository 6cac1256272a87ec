"""Show what was promoted, rejected and rolled back of a name, oldest first: when, by whom, from which run and why."""

import click

from modeler import ModelerError
from modeler.commands.options import DEFAULT_NAME, MODEL_NAME, OK, print_result


@click.command(
    help=__doc__,
    short_help="what was promoted, rejected or rolled back, when, by whom, from which run and why",
    epilog="Example: python pipeline.py history orders --json",
)
@click.argument("name", type=MODEL_NAME, default=DEFAULT_NAME)
@click.option("--json", "as_json", is_flag=True, help="print a list of objects, oldest first")
def history(name: str, as_json: bool) -> int:
    from modeler.model.stored import find_champion, list_versions, unknown_name
    from modeler.store.history import format_history
    from modeler.store.publish import read_history

    events, champion = read_history(name), find_champion(name)
    if not events and not list_versions(name):
        raise ModelerError(unknown_name(name))
    table = format_history(events, champion and champion.version) if events else f"nothing was noted of {name} yet"
    print_result(events if as_json else table)
    return OK
