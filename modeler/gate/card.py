"""The model card: what a run wrote, as one page for people."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from modeler.model.contract import class_key, read_json, read_split, used_features, write_text
from modeler.model.dates import name_parts

NOTES, CARD = "card.md", "card.html"
MOST_SHOWN = 20  # categories of a column
FILES = ("contract", "metrics", "provenance", "verdict")


def keep_notes(project: Path, run: Path, name: str) -> None:
    """Copy what a person wrote about this model into its run: the section of the project's card.md under its name.

    Each model has its own heading there, `# NAME`, so that nothing said of one model is shown for another.
    """
    try:
        text = (project / NOTES).read_text("utf-8", errors="replace")
    except OSError:
        return
    sections = re.split(r"^# +(.*?) *#*$", text, flags=re.M)
    written = [body.strip() for title, body in zip(sections[1::2], sections[2::2]) if title.strip() == name]
    if any(written):
        write_text(run / NOTES, "\n\n".join(written) + "\n")


def write_card(folder: Path, event: Mapping | None, tag: str, served: bool = False) -> None:
    """Write card.html beside the files it is made of.

    `event` is the promotion, as the history has it. With `served` the links are those of the service, else of a run's folder.
    """
    told = {name: read_json(folder / f"{name}.json") for name in FILES}
    contract, verdict = told["contract"], told["verdict"]
    importance = read_json(folder / "importance.json") if (folder / "importance.json").exists() else None
    notes = (folder / NOTES).read_text("utf-8") if (folder / NOTES).exists() else ""
    columns = [_describe_column(feature, importance) for feature in contract["features"]]
    columns.sort(key=lambda column: -(column["importance"] if importance else column["association"] or 0))
    page = _load_template().render(
        **told,
        tag=tag,
        event=event,
        served=served,
        notes=_render_notes(notes),
        split=read_split(contract),
        used=[column for column in columns if column["used"]],
        dropped=[column for column in columns if not column["used"]],
        strict=[feature["name"] for feature in used_features(contract) if not feature["missing"]],
        loss=importance["loss"].replace("_", " ") if importance else None,
        scores=_list_scores(told["metrics"], verdict.get("intervals", {})),
        classes=_list_classes(told["metrics"], contract["target"], verdict.get("intervals", {})),
    )
    write_text(folder / CARD, page)


def _describe_column(feature: dict, importance: dict | None) -> dict:
    """A column with its values in training as a text, and its importance: of a date that of its most important part."""
    if feature["type"] == "category":
        shown = ", ".join(feature.get("categories", [])[:MOST_SHOWN])
        more = len(feature.get("categories", [])) - MOST_SHOWN
        values = shown + (f" and {more} more" if more > 0 else "")
    elif feature["type"] == "boolean" or feature.get("min") is None:
        values = "yes, no" if feature["type"] == "boolean" else ""
    else:
        values = f"{_show(feature['min'])} to {_show(feature['max'])}"
        if feature.get("time"):
            values = f"{values.replace('T', ' ').replace('Z', '')} UTC"
    parts = name_parts(feature) if feature["type"] == "date" and feature["used"] else [feature["name"]]
    rise = max((importance["rise"].get(part, 0) for part in parts), default=0) if importance else None
    return feature | {"values": values, "importance": rise}


def _list_scores(metrics: dict, intervals: dict) -> list[tuple[str, str, str]]:
    """Name, value and interval of each metric of all rows."""
    return [
        (name.replace("_", " "), _show_score(value), _show_interval(intervals.get(name)))
        for name, value in metrics.items()
        if name != "cv" and ":" not in name
    ]


def _list_classes(metrics: dict, target: dict, intervals: dict) -> list[tuple[str, ...]]:
    """Each class with recall and precision, and the interval of each."""
    return [
        (
            key,
            *(
                shown
                for name in (f"recall:{key}", f"precision:{key}")
                for shown in (_show_score(metrics.get(name)), _show_interval(intervals.get(name)))
            ),
        )
        for key in map(class_key, target["classes"] or [])
    ]


def _show(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, int | float) else str(value)


def _show_score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _show_interval(interval: list[float] | None) -> str:
    return f"{_show_score(interval[0])} to {_show_score(interval[1])}" if interval else "–"


def _render_notes(text: str) -> str:
    """Markdown as HTML, without HTML of its own, its headings one level below the page's title."""
    import mistune

    return mistune.create_markdown(escape=True, plugins=["table"])(text)


@cache
def _load_template():
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    settings = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, **settings)
    environment.filters |= {"score": _show_score, "key": class_key, "show": _show}
    return environment.get_template(CARD)
