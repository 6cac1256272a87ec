"""A sweep for people: the table of its combinations on a terminal, and sweep.html with a plot of score by parameter."""

import base64
import html
import io
import os
from pathlib import Path

from modeler.model.contract import write_text
from modeler.sweep.record import Sweep

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}pre{white-space:pre-wrap;margin:0}"
)


def list_rows(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The head of the table, and a row of texts a combination, the best first."""
    rows = []
    for entry in sweep.rank():
        told = [format_value(entry["parameters"][name]) for name in sweep.varied]
        numbers = [f"{entry[name]:.4f}" if entry[name] is not None else "" for name in ("score", "spread")]
        state = "failed" if entry["error"] else "" if entry["run"] else "to do"
        seconds = f"{entry['seconds']:.1f}" if entry["seconds"] is not None else ""
        rows.append([*told, numbers[0] or state, numbers[1], seconds, Path(entry["run"] or "").name])
    return [*sweep.varied, sweep.score or "score", "spread", "seconds", "run"], rows


def format_value(value: object) -> str:
    """A parameter's value as it is given with `-p`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_table(sweep: Sweep) -> str:
    """The table as text, with the rule above it and the failures below."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, rows = list_rows(sweep)
    table = Table()
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number < len(sweep.varied) else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=max(100, os.get_terminal_size().columns if os.isatty(1) else 0))
    console.print(table)
    failures = [
        f"  failed     {Path(entry['run']).name}: {entry['error'].strip()}" for entry in sweep.rank() if entry["error"]
    ]
    return "\n".join([f"ranked by {sweep.rule}", console.file.getvalue().rstrip(), *failures])


def write_page(sweep: Sweep) -> Path:
    """Write sweep.html, which loads nothing from outside."""
    head, rows = list_rows(sweep)
    ranked, cells = sweep.rank(), len(sweep.varied)
    lines = []
    for entry, row in zip(ranked, rows):
        told = [f"<td{' class=n' if place >= cells else ''}>{html.escape(text)}</td>" for place, text in enumerate(row)]
        lines.append(f"<tr>{''.join(told)}</tr>")
        if entry["error"]:
            lines.append(f"<tr><td colspan={len(head)}><pre>{html.escape(entry['error'].strip())}</pre></td></tr>")
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    picture = draw_scores(sweep)
    image = f'<img alt="Score by parameter" src="data:image/png;base64,{picture}">' if picture else ""
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Sweep {sweep.folder.name}</title><style>{STYLE}</style>"
        f"<h1>Sweep {sweep.folder.name}</h1><p>Ranked by {html.escape(sweep.rule)}.</p>{image}"
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></html>\n"
    )
    write_text(path := sweep.folder / "sweep.html", page)
    return path


def draw_scores(sweep: Sweep) -> str:
    """A picture, PNG as base64, of every score by each parameter that varies; empty where nothing does or has a score."""
    scored = [entry for entry in sweep.rank() if entry["score"] is not None]
    if not scored or not sweep.varied:
        return ""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context("modeler.plots"):
        heights = [0.5 + 0.35 * len({entry["parameters"][name] for entry in scored}) for name in sweep.varied]
        figure = Figure(figsize=(9, 1.2 + sum(heights)))
        grid = figure.subplots(len(sweep.varied), 1, squeeze=False, height_ratios=heights, sharex=True)
        for axes, name in zip(grid[:, 0], sweep.varied):
            draw_parameter(axes, scored, name)
        axes.set_xlabel(f"{sweep.score}, cross-validated: combinations, and their mean")
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=110)
    return base64.b64encode(sink.getvalue()).decode()


def draw_parameter(axes, scored: list[dict], name: str) -> None:
    """The scores by one parameter: a line of points a value, with their mean."""
    values = sorted({entry["parameters"][name] for entry in scored})
    for place, value in enumerate(values):
        scores = [entry["score"] for entry in scored if entry["parameters"][name] == value]
        color = "C1" if scored[0]["parameters"][name] == value else "C0"
        axes.plot(scores, [place] * len(scores), ".", color="0.6")
        axes.plot([sum(scores) / len(scores)], [place], "o", color=color)
    axes.set_yticks(range(len(values)), [format_value(value) for value in values])
    axes.set(title=name, ylim=(-0.6, len(values) - 0.4))
