"""Where a model comes from: enough to train it again and to name what differs."""

import ast
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path

# The packages that compute, convert or store numbers, even if no notebook imports them by name.
SHAPING = ["joblib", "ndonnx", "numpy", "onnx", "onnxruntime", "pandas", "protobuf", "pyarrow",
           "scikit-learn", "scipy", "skl2onnx", "skops", "spox", "threadpoolctl"]  # fmt: skip
# What an estimator of this name takes besides; with `auto`, what is not installed decides the result, too.
OPTIONAL = {"lightgbm": ["lightgbm", "onnxmltools"], "xgboost": ["onnxmltools", "xgboost", "xgboost-cpu"],
            "catboost": ["catboost"]}  # fmt: skip


def describe_provenance(table, notebooks: list[Path], parameters: dict[str, dict]) -> dict:
    """Describe what a run is made from, for provenance.json.

    `notebooks` are the project's, not the executed ones. `parameters` are by file name and include the defaults.
    """
    from modeler.data.rows import hash_table, list_dealing, split_rows  # late: a second, which `runs` has no use for
    from modeler.data.timeline import describe_split

    eda, (rows, columns) = parameters["eda.ipynb"], table.frame.shape
    dealing = list_dealing(eda)
    split = describe_split(table, *dealing)
    rule = f"hash of {split['by'] or 'the row and its occurrence number'}"
    if split["time"]:
        rule = f"latest by {split['time']}" + (f", with all rows of each {split['by']}" if split["by"] else "")
    return {
        "parameters": parameters,
        "seed": parameters["train.ipynb"].get("seed"),
        "data": {"name": table.name, "sha256": hash_table(table.frame), "rows": rows, "columns": columns}
        | ({"sample": table.sample} if table.sample else {}),
        "holdout": {
            "rule": rule,
            "time": split["time"],
            "boundary": split["boundary"],
            "share": split["share"],
            "rows": int(split_rows(table.frame, *dealing).sum()),
        },
        "notebooks": {path.name: hash_file(path) for path in notebooks},
        **describe_surroundings(notebooks[0].parent),
        "packages": list_packages(notebooks, parameters["train.ipynb"].get("estimator"), table.built_in),
    }


def describe_surroundings(project: Path) -> dict:
    """What shapes a notebook's result from outside: code, Python and platform."""
    return {"git": _describe_git(project), **describe_code()}


def describe_code() -> dict:
    """The hash of this package, Python and platform."""
    return {
        "modeler": _hash_package(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_data(data: Path | None) -> str | None:
    """The SHA-256 of a data file's bytes; None for built-in data, and for a file that cannot be read."""
    try:
        return hash_file(data) if data and data.is_file() else None  # a pipe or a device may never end
    except OSError:
        return None


def find_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_notebook(path: Path, sha256: str, git: dict | None) -> str | None:
    """The text of a notebook with this hash, from today's file or from the commit; None if neither has it."""
    candidates = [path.read_bytes()] if path.exists() else []
    if git and re.fullmatch("[0-9a-f]+", git["commit"]):
        with suppress(OSError, subprocess.SubprocessError):  # no git checkout, or none with this commit
            candidates.append(_run_git(path.parent, "show", f"{git['commit']}:./{path.name}"))
    return next((text.decode() for text in candidates if hashlib.sha256(text).hexdigest() == sha256), None)


def _hash_package() -> str:
    """SHA-256 over the modules of this package, as hex digits, because its version does not change with each commit."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(json.dumps([path.relative_to(package).as_posix(), len(content)]).encode() + content)
    return digest.hexdigest()


def _describe_git(folder: Path) -> dict | None:
    """The commit, and whether files differ from it; None outside a git checkout."""
    try:
        commit, changes = _run_git(folder, "rev-parse", "HEAD"), _run_git(folder, "status", "--porcelain", "--", ":/")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.decode().strip(), "dirty": bool(changes.strip())}


def _run_git(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True, timeout=30).stdout


def list_packages(notebooks: list[Path], estimator: str | None, built_in: bool) -> dict[str, str | None]:
    """The versions of what shapes every result, of what these notebooks import, and of what the estimator takes."""
    distributions = importlib.metadata.packages_distributions()
    names = {name for path in notebooks for module in _list_imports(path) for name in distributions.get(module, [])}
    asked = list(OPTIONAL) if estimator == "auto" and not built_in else [estimator]
    names |= {*SHAPING, *(name for one in asked for name in OPTIONAL.get(one, []))}
    return {name: find_version(name) for name in sorted(names, key=str.lower)}


def _list_imports(notebook: Path) -> set[str]:
    modules = set()
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        try:
            tree = ast.parse("".join(cell["source"])) if cell["cell_type"] == "code" else ast.Module([], [])
        except SyntaxError:  # a cell with IPython magic
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module or "")
    return {name.partition(".")[0] for name in modules}
