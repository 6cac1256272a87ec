"""What decides an answer and is not as a provenance.json has it, found without reading the data as a table."""

from collections.abc import Iterable
from pathlib import Path

from modeler.runs.provenance import describe_code, find_version, hash_file

WORDS = {"modeler": "the package modeler", "python": "Python", "platform": "the platform"}
COMPARED = "data, notebooks, parameters, package, package versions, Python, platform, floors and ceilings"


def describe_inputs(notebooks: Iterable[Path], parameters: dict[str, dict]) -> dict:
    """The part of a provenance.json that is known of notebooks and code alone."""
    return {"parameters": parameters, "notebooks": {path.name: hash_file(path) for path in notebooks}} | describe_code()


def list_changes(then: dict, now: dict) -> list[str]:
    """Name what differs of all that decides an answer. `now` has `describe_inputs`, `file_sha256`, `floors` and `ceilings`.

    What a provenance of before does not tell counts as changed.
    """
    changed = [name for notebook in now["notebooks"] for name in _compare_notebook(then, now, notebook)]
    changed += [f"the {bounds}" for bounds in ("floors", "ceilings") if then.get(bounds) != now[bounds]]
    return _compare_surroundings(then, now) + changed


def has_same_eda(then: dict, now: dict, notebook: str) -> bool:
    """Whether a notebook that reads nothing but the data was told the same and finds the same."""
    return not _compare_surroundings(then, now) + _compare_notebook(then, now, notebook)


def _compare_surroundings(then: dict, now: dict) -> list[str]:
    changed = [] if then.get("file_sha256", "") == now["file_sha256"] else ["the data"]
    changed += [name for key, name in WORDS.items() if then.get(key) != now[key]]
    packages = then.get("packages") or {"scikit-learn": ""}
    return changed + [name for name, version in packages.items() if version != find_version(name)]


def _compare_notebook(then: dict, now: dict, notebook: str) -> list[str]:
    changed = [] if then.get("notebooks", {}).get(notebook) == now["notebooks"][notebook] else [notebook]
    was, told = then.get("parameters", {}).get(notebook, {}), now["parameters"][notebook]
    return changed + [
        f"-p {name}" for name in was | told if name not in was or name not in told or was[name] != told[name]
    ]
