"""What differs between the sides of a comparison: parameters, data, columns, packages and cells."""

import difflib
from collections.abc import Mapping, Sequence

from modeler.compare.sides import NOTEBOOKS, Side
from modeler.runs.reproduce import list_sources

DIGITS = 12  # of a hash that are shown
Differences = dict[str, dict[str, object]]  # by what differs, then by side; None where a side has none


def compare_parameters(sides: Sequence[Side]) -> Differences:
    """The parameters that are not the same in all sides."""
    told = {side.name: {} for side in sides if side.parameters}
    for side in sides:
        for parameters in side.parameters.values():
            told[side.name] |= {name: value for name, value in parameters.items() if name != "out"}
    return _keep_differing(told)


def compare_data(sides: Sequence[Side]) -> Differences:
    """Name, hash and size of the data, and how many rows were held out by which rule."""
    told = {}
    for side in sides:
        if data := side.provenance.get("data"):
            held = side.provenance.get("holdout", {})
            noted = {name: data[name] for name in ("name", "rows", "columns") if name in data}
            noted |= {
                f"held out: {name}": held[name] for name in ("rule", "rows", "boundary") if held.get(name) is not None
            }
            told[side.name] = {"SHA-256": data.get("sha256", "")[:DIGITS]} | noted
    return _keep_noted(told)


def compare_columns(sides: Sequence[Side]) -> Differences:
    """The columns that are not of the same type in all sides, or not used by all."""
    return _keep_differing({
        side.name: {
            feature["name"]: feature["type"] + ("" if feature["used"] else ", dropped")
            for feature in side.contract["features"]
        }
        for side in sides
        if side.contract
    })  # fmt: skip


def compare_packages(sides: Sequence[Side]) -> Differences:
    """The versions of packages and Python that differ, the platform, and the code of this package."""
    told = {}
    for side in sides:
        if side.provenance:
            noted = {name: side.provenance[name] for name in ("python", "platform") if name in side.provenance}
            code = {"modeler": side.provenance["modeler"][:DIGITS]} if side.provenance.get("modeler") else {}
            told[side.name] = side.provenance.get("packages", {}) | noted | code
    return _keep_noted(told)


def compare_cells(sides: Sequence[Side]) -> dict[str, dict[str, str]]:
    """The notebooks' cells as a unified diff against the first side that has them, by notebook and side; empty where equal."""
    found = {}
    for file in NOTEBOOKS:
        first, *others = [side for side in sides if file in side.notebooks] or [None]
        before = _write_cells(first, file) if first else []
        for other in others:
            lines = difflib.unified_diff(before, _write_cells(other, file), first.name, other.name, lineterm="", n=1)
            if diff := "\n".join(lines):
                found.setdefault(file, {})[other.name] = diff
    return found


def _write_cells(side: Side, file: str) -> list[str]:
    """The lines of a notebook's cells, each below a line with its kind and position."""
    lines = []
    for kind, source in list_sources(side.notebooks[file]):
        lines += [f"[{kind}]", *source.splitlines()]
    return lines


def _keep_differing(told: Mapping[str, Mapping[str, object]]) -> Differences:
    """What is not the same in all sides, in the order of the first that names it."""
    names = {name: None for noted in told.values() for name in noted}
    values = {name: {side: noted.get(name) for side, noted in told.items()} for name in names}
    return {name: row for name, row in values.items() if any(value != [*row.values()][0] for value in row.values())}


def _keep_noted(told: Mapping[str, Mapping[str, object]]) -> Differences:
    """Like `_keep_differing`, but what a side did not note is no difference."""
    named = {name for noted in told.values() for name in noted}
    everywhere = {name for name in named if all(name in noted for noted in told.values())}
    return _keep_differing({
        side: {name: value for name, value in noted.items() if name in everywhere} for side, noted in told.items()
    })  # fmt: skip
