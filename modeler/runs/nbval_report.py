"""A pytest plugin for nbval: compare plots too, connect kernels by socket files, and report each cell as it ends."""

import json

import pytest

from modeler.inside import leave_out_grammar, use_kernel_manager
from modeler.linux import watch_parent
from modeler.runs.execute import is_code, quote_end
from modeler.runs.kernels import localize_kernels
from modeler.runs.replay import COMPARED, IGNORED


def pytest_addoption(parser, pluginmanager):
    leave_out_grammar()  # before nbval imports it
    pluginmanager.import_plugin("nbval.plugin")
    parser.addoption("--cells-report", help="file that gets one JSON line per cell")


def pytest_configure():
    watch_parent()
    use_kernel_manager(localize_kernels)


def pytest_collection_modifyitems(items):
    for item in items:
        item.output_timeout = 60  # seconds; nbval's default of 5 is short on a busy machine
    for notebook in {item.parent for item in items}:
        notebook.skip_compare = [kind for kind in notebook.skip_compare if not kind.startswith("image/")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    decided = report.when == "call" or not report.passed
    if decided and item.cell.source.strip():
        difference = getattr(call.excinfo and call.excinfo.value, "inner_traceback", None) or report.longreprtext
        message = quote_end(difference, 12) if report.failed else ""
        code = [
            cell for cell in item.parent.nb.cells if cell.cell_type == "code"
        ]  # nbval numbers these, even empty ones
        number = sum(map(is_code, code[: item.cell_num + 1]))
        line = {"number": number, "outcome": _describe_outcome(item, report), "message": message}
        with open(item.config.getoption("--cells-report"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return report


def _describe_outcome(item, report) -> str:
    if report.failed:
        differs = "Cell outputs differ" in report.longreprtext
        return "gave another output the second time" if differs else "failed the second time"
    if report.skipped:
        return "was skipped"
    if not item.options["check"]:
        return IGNORED
    return "was never run, so there is nothing to compare" if item.cell.execution_count is None else COMPARED
