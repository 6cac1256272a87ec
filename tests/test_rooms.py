"""The rooms of the package: arrows point one way, and what is served imports nothing that serving does not need."""

import ast
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

PACKAGE = ROOT / "modeler"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAY_IMPORT = {
    "model": set(),
    "page": set(),
    "service": {"model", "page"},
    "data": {"model"},
    "train": {"model", "data"},
    "runs": {"model", "data"},
    "gate": {"model", "data", "train"},
    "store": {"model"},
    "ship": {"model", "page", "service"},
    "cluster": set(),
    "score": {"model", "page", "service", "data", "cluster"},
    "sweep": {"model", "data", "runs", "cluster"},
    "monitor": {"model", "data", "train", "gate"},
    "compare": {"model", "data", "train", "runs", "gate"},
    "commands": {
        "model", "page", "service", "data", "train", "runs", "gate", "store", "ship", "cluster", "score", "sweep", "monitor", "compare",
    },
}  # fmt: skip
SERVED = ["model", "page", "service"]
UNSERVED = ["pandas", "sklearn", "onnx", "skl2onnx", "skops", "pyarrow", "jupyter_client", "nbformat", "papermill", "scipy"]


def name_module(path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def list_imports(path) -> set[str]:
    """The modules of this package that a module imports, at its head or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_module(path)} imports by a relative path; name the room"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & NAMES) or {node.module}
    return {name for name in found if name.partition(".")[0] == "modeler"}


NAMES = {name_module(path) for path in MODULES}


def find_room(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_room_has_its_place_in_the_order():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT), "a new room needs a line in MAY_IMPORT and in docs/architecture.md"


@pytest.mark.parametrize("path", MODULES, ids=name_module)
def test_module_imports_only_from_rooms_below_its_own(path):
    room = find_room(name_module(path))
    for imported in list_imports(path):
        other = find_room(imported)
        if other in MAY_IMPORT and other != room:
            allowed = MAY_IMPORT.get(room, set())
            assert other in allowed, (
                f"{name_module(path)} imports {imported}: the room {room or 'modeler itself'!r} may import from "
                f"{', '.join(sorted(allowed)) or 'no other room'}; move the function to a room below, or pass its result"
            )


def test_no_room_leads_back_to_itself():
    def climb(room, passed=()):
        assert room not in passed, f"{' -> '.join([*passed, room])} is a circle of rooms"
        for other in MAY_IMPORT[room]:
            climb(other, (*passed, room))

    for room in MAY_IMPORT:
        climb(room)


@pytest.mark.medium
def test_no_module_leads_back_to_itself():
    arrows = {name_module(path): list_imports(path) & NAMES for path in MODULES}

    def climb(module, passed):
        assert module not in passed, f"{' -> '.join([*passed, module])} is a circle of modules"
        for other in arrows[module] - {"modeler"}:
            climb(other, [*passed, module])

    for module in arrows:
        climb(module, [])


def test_bento_holds_whole_rooms_and_just_the_served_ones():
    include = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"]
    assert include == ["/service.py", "/modeler/*.py", *(f"/modeler/{room}/*" for room in SERVED)]


@pytest.mark.medium
def test_nothing_that_is_served_imports_pandas_scikit_learn_onnx_or_jupyter():
    served = [name for name in sorted(NAMES) if find_room(name) in ["", "inside", *SERVED]]
    script = (
        f"import importlib, sys\nfor name in {served}: importlib.import_module(name)\n"
        "from modeler.model.graph import import_runtime; import_runtime()\n"
        f"print(*sorted(set({UNSERVED}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"served rooms import {done.stdout}"


def test_import_of_the_package_does_nothing_but_define_it():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, modeler; print(len([n for n in sys.modules if n.startswith('modeler')]))"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_no_function_is_long_and_no_file_is():
    for path in [*MODULES, ROOT / "pipeline.py", ROOT / "service.py"]:
        source = path.read_text("utf-8")
        assert source.count("\n") <= 300, f"{path.name} has {source.count(chr(10))} lines; split it by reason to exist"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 50, f"{path.name}: {node.name} has {lines} lines; name its parts"
    assert (ROOT / "pipeline.py").read_text().count("\n") <= 120


@pytest.mark.medium
def test_parent_process_of_the_service_imports_no_numpy():
    script = "import sys, service; sys.exit('numpy' in sys.modules and 'service.py imports numpy')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
