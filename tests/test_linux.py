"""Which systems it runs on: what only Linux has stands in one module, and elsewhere the rest works without it."""

import math
import os
import re
import tempfile

import pytest
import yaml
from conftest import ROOT, read_page
from jupyter_client import KernelManager

from modeler import linux
from modeler.runs.kernels import localize_kernels

SOURCES = [*(ROOT / "modeler").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "pipeline.py", ROOT / "service.py"]
MACOS_ADDRESS = 103  # bytes of a socket file's path, sys/un.h
LINUX = (
    r"/proc\b|/sys/|/dev/(?!null)|/run/|/usr/lib|prctl|sched_|sys\.platform|platform\.system\(\) ==|epoll|inotify|os\.fork|"
    r"memfd|O_TMPFILE|O_PATH|SO_REUSEPORT|\.pss|cpu_affinity"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_assumes_nothing_but_a_unix(path):
    found = re.findall(LINUX, path.read_text("utf-8"))
    if path == ROOT / "modeler" / "linux.py":
        assert found, "this test no longer finds what only Linux has"
    else:
        assert not found, f"{found[0]} is Linux's own, or differs elsewhere; it belongs into modeler/linux.py"


def test_no_two_files_differ_by_case_alone():
    """macOS keeps one of them."""
    names = [path.relative_to(ROOT).as_posix().lower() for path in SOURCES + sorted((ROOT / "tests").glob("*"))]
    assert len(names) == len(set(names))


def test_socket_file_of_a_kernel_has_room_in_its_address(monkeypatch):
    """Where macOS has its folder for temporary files, 49 bytes long, and wherever else one is."""
    transports = {}
    for length in range(1, 120):
        monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (length - 1))
        manager = localize_kernels(KernelManager)()
        transports[length] = manager.transport
        assert manager.transport == "tcp" or len(os.fsencode(f"{manager.ip}-5")) <= MACOS_ADDRESS
    assert transports[49] == "ipc" and set(transports.values()) == {"ipc", "tcp"}


@pytest.mark.parametrize(("limit", "spare"), [("1000", 600), ("max", math.inf), (None, math.inf)])
def test_memory_is_what_the_control_group_leaves(tmp_path, monkeypatch, limit, spare):
    monkeypatch.setattr(linux, "CONTROL_GROUP", tmp_path)
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("400\n")
    assert linux.read_spare_memory() == spare


def test_project_workflow_and_readme_name_the_same_pythons():
    first, beyond = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "model.yml").read_text())["jobs"]
    every = [f"3.{minor}" for minor in range(int(first), int(beyond))]
    assert jobs["test"]["strategy"]["matrix"]["python"] == every
    assert jobs["macos"]["strategy"]["matrix"]["python"] == [every[0], every[-1]]
    assert read_page("README.md").count(f"Python {every[0]} to {every[-1]}") == 2
