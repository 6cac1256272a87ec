"""Score a file: answer every row of a .csv file, of Parquet files, or of an address such as s3://bucket/rows/"""

from types import SimpleNamespace

import click

from modeler.commands.options import DEFAULT_NAME, OK, TEXT, Choice, print_result
from modeler.commands.progress import Progress


@click.command(
    help=__doc__,
    short_help="answer every row of a file, on this machine or on a Dask cluster",
    epilog="Example: python pipeline.py score orders.csv answers.parquet --model orders",
)
@click.argument("input")
@click.argument("output")
@click.option(
    "--model",
    metavar="NAME[:VERSION]",
    type=TEXT,
    default=DEFAULT_NAME,
    help="the model (default: the champion of breast_cancer)",
)
@click.option(
    "--keep",
    metavar="COLUMN,…|all",
    type=TEXT,
    help="the columns of the input to keep (default: those that the model does not use)",
)
@click.option(
    "--faults",
    type=Choice(["refuse", "skip", "blank"]),
    default="refuse",
    help="faulty rows: refuse the input, skip them, or leave their answers blank (default: refuse)",
)
@click.option("--overwrite", is_flag=True, help="replace an output that is there already")
@click.option(
    "--cluster",
    metavar="ADDRESS|local[:N]",
    type=TEXT,
    help="a Dask scheduler such as tcp://HOST:8786, or N workers on this machine (default: as many as it has cores)",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object and nothing else on standard output")  # fmt: skip
def score(as_json: bool, **options) -> int:
    from modeler.score.job import score_file
    from modeler.score.places import find_place

    result = score_file(SimpleNamespace(**options), Progress().say)
    print_result(
        result if as_json else describe_scoring(result, options["faults"], find_place(options["output"]).shown)
    )
    return OK


def describe_scoring(result: dict, faults: str, output: str) -> str:
    """What came of a scoring, for a person."""
    rows, seconds = result["rows"], result["seconds"]
    lines = [
        f"{result['model']} answered {result['answered']} of {rows} rows in {seconds:.1f} s, "
        f"{result['rows_per_second']} a second",
        f"  output     {output}",
        f"  memory     {result['peak_memory'] / 1e6:.0f} MB at most in a worker",
    ]
    if faults != "refuse":
        lines.append(f"  faults     {result['faults']}, in {output.rstrip('/')}.faults.csv")
    return "\n".join(lines)
