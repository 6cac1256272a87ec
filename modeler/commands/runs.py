"""List the runs, the newest first: when, which model, verdict, score, what differs from the defaults, data and seconds."""

import shutil
import textwrap
from pathlib import Path

import click

from modeler import ModelerError, did_you_mean, list_names
from modeler.commands.options import MODEL_NAME, OK, print_result


@click.command(
    help=__doc__,
    short_help="every run there is: verdict, score, and what differs from the defaults",
    epilog="Example: python pipeline.py runs orders",
)
@click.argument("name", type=MODEL_NAME, required=False)
@click.option("--json", "as_json", is_flag=True, help="print a list of objects, newest first")
@click.pass_obj
def runs(project: Path, name: str | None, as_json: bool) -> int:
    from modeler.runs.listing import list_runs

    listed = list_runs(project / "runs", read_defaults(project / "notebooks"))
    names = sorted({run["name"] for run in listed if run["name"]})
    if name:
        listed = [run for run in listed if run["name"] == name]
    if name and not listed:
        there = f"there are runs of {list_names(names)}" if names else "there is none of any name yet"
        raise ModelerError(f"there is no run of {name}{did_you_mean(name, names)}; {there}")
    print_result(listed if as_json else format_runs(listed) or "there is no run yet; `python pipeline.py` makes one")
    return OK


def read_defaults(notebooks: Path) -> dict[str, object]:
    """What the notebooks set their parameters to, as far as they can be read."""
    from modeler.runs.parameters import read_parameters

    defaults = {}
    for notebook in (notebooks / "eda.ipynb", notebooks / "train.ipynb"):
        try:
            defaults |= {name: parameter.default for name, parameter in read_parameters(notebook).items()}
        except ModelerError:
            pass  # the runs are worth a look all the same
    return defaults


def format_runs(listed: list[dict]) -> str:
    """The runs as a table that fits the terminal; empty where there is none."""
    from modeler.sweep.page import format_value

    width = max(60, shutil.get_terminal_size().columns)
    lines = [f"{'when (UTC)':<19}  {'verdict':<11}  model"] if listed else []
    for run in listed:
        when, folder = run["when"][:19].replace("T", " "), Path(run["run"])
        folder = "/".join(folder.parts[-2:]) if folder.name.isdigit() else folder.name
        parameters = (f"{name}={format_value(value)}" for name, value in run["parameters"].items())
        data, seconds = run["data"] and f"data {run['data']}", run["seconds"] and f"{run['seconds']:.1f} s"
        facts = ", ".join(filter(None, [f"run {folder}", data, seconds]))
        told = [run["error"], format_score(run["score"]), facts, ", ".join(parameters)]
        lines.append(f"{when}  {run['verdict']:<11}  {run['model'] or run['name'] or '-'}")
        for text in filter(None, told):
            lines += textwrap.wrap(text, width, initial_indent=" " * 21, subsequent_indent=" " * 23)
    return "\n".join(lines)


def format_score(score: dict | None) -> str:
    if not score:
        return ""
    interval = "" if score["low"] is None else f" ({score['low']:.4f} to {score['high']:.4f})"
    spread = "" if score["spread"] is None else f" ± {score['spread']:.4f}, cross-validated"
    return f"{score['name']} {score['value']:.4f}{interval}{spread}"
