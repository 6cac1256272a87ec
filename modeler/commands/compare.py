"""Compare two to ten runs, runs of sweeps or stored models on a page: what differs, which is better, where they disagree."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from modeler.commands.options import OK, TEXT, print_result
from modeler.commands.progress import Progress
from modeler.commands.retrain import create_run, relate


@click.command(
    help=__doc__,
    short_help="runs and models side by side: what differs, which is better",
    epilog="Example: python pipeline.py compare orders:latest 20261126-101500-4711 20261126-113000-4802/03",
)
@click.argument("sides", metavar="RUN|TAG RUN|TAG ...", nargs=-1, required=True, type=TEXT)
@click.option("--json", is_flag=True, help="print one JSON object and nothing else on standard output")
@click.pass_obj
def compare(project: Path, sides: Sequence[str], json: bool) -> int:
    from modeler.compare.sides import list_notes, read_sides

    started, progress, runs = time.monotonic(), Progress(), project / "runs"
    compared = read_sides(sides, runs)
    for note in list_notes(compared):
        progress.say(f"note       {note}")

    from modeler.runs.execute import execute_page

    run = create_run(runs, None)
    parameters = {"sides": ",".join(side.name for side in compared), "runs": "..", "out": "."}
    progress.say(f"execute    compare.ipynb in {relate(run)}")
    with progress:
        figures = execute_page(project / "notebooks" / "compare.ipynb", run, parameters, "compare.json", progress)
    told = describe_comparison(figures, time.monotonic() - started)
    page = f"  page       {relate(run / 'compare.html')}"
    print_result({"run": str(run)} | figures if json else "\n".join([*told, page]))
    return OK


def describe_comparison(figures: dict, seconds: float) -> list[str]:
    """A comparison for a person: what differs in numbers, the first scores, the differences in pairs and the notes."""
    names = [side["name"] for side in figures["sides"]]
    counts = {kind: len(found) for kind, found in figures["differences"].items()}
    metric = "roc_auc" if figures["task"] == "classification" else "mae"
    scored = {name: scores[metric] for name, scores in figures["scores"].items() if scores[metric]["value"] is not None}
    lines = [
        f"compared {', '.join(names)} in {seconds:.0f} s",
        f"  differing  {', '.join(f'{kind} {count}' for kind, count in counts.items())}",
    ]
    for name, score in scored.items():
        interval = f" ({score['low']:.4g} to {score['high']:.4g})" if score["low"] is not None else ""
        lines.append(f"  score      {metric} {score['value']:.4g}{interval} on {figures['rows']} rows: {name}")
    for gain in figures["gains"]:
        figure = f"{gain['gain']:+.4g} ({gain['low']:+.4g} to {gain['high']:+.4g})"
        lines.append(f"  gain       {gain['measure']} {figure}, {gain['unit']}: {gain['side']} over {gain['over']}")
    if figures["scores"]:
        lines.append(f"  disagree   in {figures['disagreements']['rows']} of {figures['rows']} rows")
    return [*lines, *(f"  note       {note}" for note in figures["notes"])]
