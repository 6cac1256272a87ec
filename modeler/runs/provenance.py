"""Where a model comes from: enough to train it again and to say what differs."""

import ast
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from pathlib import Path

from modeler.data.rows import hash_table, split_rows
from modeler.data.tables import Table

# What computes, converts or stores numbers, whether or not a notebook imports it by name.
SHAPING = [
    "joblib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "protobuf",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skl2onnx",
    "skops",
    "threadpoolctl",
]


def describe_provenance(table: Table, notebooks: list[Path], parameters: dict[str, dict]) -> dict:
    """Describe what a run was made from, as provenance.json holds it.

    The notebooks are the project's, not the executed ones; their parameters stand by file name, defaults included.
    """
    eda = parameters["eda.ipynb"]
    return {
        "parameters": parameters,
        "seed": parameters["train.ipynb"].get("seed"),
        "data": {
            "name": table.name,
            "sha256": hash_table(table.frame),
            "rows": len(table.frame),
            "columns": table.frame.shape[1],
        },
        "holdout": {
            "rule": "hash of the row and its occurrence number"
            if not eda["split_by"]
            else f"hash of {eda['split_by']}",
            "share": eda["holdout"],
            "rows": int(split_rows(table.frame, eda["holdout"], eda["split_by"]).sum()),
        },
        "notebooks": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in notebooks},
        **describe_surroundings(notebooks[0].parent),
        "packages": _list_packages(notebooks),
    }


def describe_surroundings(project: Path) -> dict:
    """What is not written down in a notebook and yet shapes its result: code, Python and platform."""
    return {
        "git": _describe_git(project),
        "modeler": _hash_package(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def find_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_notebook(path: Path, sha256: str, git: dict | None) -> str | None:
    """The text of the notebook with this hash: today's file, or the commit's; None if neither has it."""
    candidates = [path.read_bytes()] if path.exists() else []
    if git and re.fullmatch("[0-9a-f]+", git["commit"]):
        try:
            candidates.append(_run_git(path.parent, "show", f"{git['commit']}:./{path.name}"))
        except (OSError, subprocess.SubprocessError):
            pass  # no checkout, or one without this commit
    return next((text.decode() for text in candidates if hashlib.sha256(text).hexdigest() == sha256), None)


def _hash_package() -> str:
    """SHA-256 over the modules of this package, as hex digits: its version stays the same from commit to commit."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(json.dumps([path.relative_to(package).as_posix(), len(content)]).encode() + content)
    return digest.hexdigest()


def _describe_git(folder: Path) -> dict | None:
    """The commit and whether files differ from it; None outside a git checkout."""
    try:
        commit, changes = _run_git(folder, "rev-parse", "HEAD"), _run_git(folder, "status", "--porcelain", "--", ":/")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.decode().strip(), "dirty": bool(changes.strip())}


def _run_git(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True, timeout=30).stdout


def _list_packages(notebooks: list[Path]) -> dict[str, str]:
    """Versions of what shapes every result and of what these notebooks import."""
    distributions = importlib.metadata.packages_distributions()
    imported = {name for path in notebooks for module in _list_imports(path) for name in distributions.get(module, [])}
    return {name: importlib.metadata.version(name) for name in sorted({*SHAPING, *imported}, key=str.lower)}


def _list_imports(notebook: Path) -> set[str]:
    modules = set()
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        try:
            tree = ast.parse("".join(cell["source"])) if cell["cell_type"] == "code" else ast.Module([], [])
        except SyntaxError:  # a cell with IPython magic
            continue
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [getattr(node, "module", None)]
            )
            modules |= {name.partition(".")[0] for name in names if name}
    return modules
