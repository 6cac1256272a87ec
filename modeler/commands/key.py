"""Make a key for a client of the service, and print it, this once, with its line for the service's key file."""

import click

from modeler.commands.options import OK, TEXT, print_result


@click.command(
    help=__doc__,
    short_help="a new key for a client of the service, shown once, and its line for the key file",
    epilog="Example: python pipeline.py key shop",
)
@click.argument("name", type=TEXT)
def key(name: str) -> int:
    from modeler.service.access import make_key

    made, line = make_key(name)
    told = "shown this once; who asks sends it in the header `authorization: Bearer KEY`"
    print_result(f"the key, {told}:\n{made}\nits line for the key file, which holds its SHA-256 alone:\n{line}")
    return OK
