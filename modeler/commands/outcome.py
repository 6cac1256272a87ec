"""The outcome of a retrain in words."""

from collections.abc import Sequence

from modeler.commands.options import DEFAULT_NAME
from modeler.commands.retrain import relate

RELOAD = "reload     kill -HUP PID of a running `bentoml serve`; no request is lost"


def describe_result(result: dict, notes: Sequence[str], checks: Sequence) -> str:
    """A retrain's outcome for a person: the gate's checks, those that failed first, and what the data were taken for."""
    cells, taken = sum(notebook["cells_compared"] for notebook in result["notebooks"]), result["eda_from"]
    lines = [
        f"{result['candidate']} {result['verdict']} in {result['seconds']:.0f} s, {cells} cells compared",
        *(describe_check(check) for check in sorted(checks, key=lambda check: check.passed)),
        *(f"  warning    {warning['message']}" for warning in result["warnings"]),
        *(f"  {'' if number else 'data':10} {note}" for number, note in enumerate(notes)),
        f"  hold-out   {list_scores(result['metrics']) or 'not scored'}",
        f"  champion   {result['model'] or 'none'}",
        f"  run        {relate(result['run'])}",
        *([f"  eda.ipynb  taken over from run {taken}, and executed again by nbval"] if taken else []),
        *list_made(result),
    ]
    if result["verdict"] == "promoted":
        lines.append(f"  {RELOAD}")
    if result["model"]:
        lines.append(tell_serving(result["model"]))
    return "\n".join(lines)


def list_scores(metrics: dict[str, float | None]) -> str:
    """The scores that are defined, on one line."""
    return ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items() if value is not None)


def list_made(result: dict) -> list[str]:
    """A line for the bento and for the image, where they were built."""
    return [f"  {made:10} {result[made]}" for made in ("bento", "image") if result[made]]


def tell_serving(tag: str) -> str:
    """How to serve a champion."""
    name = tag.partition(":")[0]
    return f"  serve it   bentoml serve{'' if name == DEFAULT_NAME else f' --arg model={name}'}"


def describe_check(check) -> str:
    """A check of the gate on one line: its number and its threshold stand in brackets."""
    number, threshold = ("-" if value is None else f"{value:.4g}" for value in (check.value, check.threshold))
    return f"  {'passed' if check.passed else 'FAILED':10} {check.name} ({number}, {threshold}): {check.sentence}"


def describe_unchanged(result: dict) -> str:
    """The outcome for a person."""
    lines = [
        f"{result['model']} unchanged in {result['seconds']:.1f} s, nothing was executed",
        f"  because    {result['reasons'][0]}",
        *(f"  warning    {warning['message']}" for warning in result["warnings"]),
        f"  hold-out   {list_scores(result['metrics'])}",
        f"  champion   {result['model']}",
        *list_made(result),
        tell_serving(result["model"]),
    ]
    return "\n".join(lines)
