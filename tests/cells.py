"""The notebooks' cells run in this process, without kernels, and the service's HTTP front asked without a socket."""

import asyncio
import json
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd

import pipeline
from modeler.data.derive import derive_contract
from modeler.data.rows import split_rows
from modeler.data.tables import Table, load_table
from modeler.model.contract import write_json
from modeler.runs.execute import Execution, is_code
from modeler.service.front import Front
from modeler.service.telemetry import Metrics

HERE = "--- what the cells print"
ROOT = Path(__file__).resolve().parent.parent


def run_cells(told: dict, until: str = "", edit=lambda source: source, notebook="train.ipynb", then=lambda: None) -> dict:
    """Run the code cells of a notebook up to the one that holds a text, with these parameters; the names it sets.

    `notebook` is a name in notebooks/ or a path; `then` is called after every cell.
    """
    names = {"display": print}
    for cell in nbformat.read(ROOT / "notebooks" / notebook, 4).cells:
        if cell.cell_type == "code":
            exec(compile(edit(cell.source), str(notebook), "exec"), names)
            names |= told if "parameters" in cell.metadata.get("tags", []) else {}
            then()
            if until and until in cell.source:
                return names
    assert not until, f"no cell of {notebook} holds {until!r}"
    return names


def make_mixed(kind: str) -> pd.DataFrame:
    """300 rows with gaps, booleans and a column of 120 categories, more than `max_categories`."""
    rng = np.random.default_rng(0)
    size, town = rng.normal(size=300), rng.integers(120, size=300)
    signal = size + (town % 3) + rng.normal(scale=0.2, size=300)
    y = {
        "two": np.where(signal > 1, "yes", "no"),
        "several": np.digitize(signal, [0, 1, 2]) * 10,
        "numbers": signal.round(4),
    }[kind]
    return pd.DataFrame({
        "size (cm)": pd.Series(size).where(rng.random(300) > 0.1),
        "size (CM)": rng.integers(9, size=300),
        "town": pd.Series([f"T{n}" for n in town], dtype=object).where(rng.random(300) > 0.1, None),
        "odd": pd.Series(town % 2 == 1).astype(object).where(rng.random(300) > 0.1, None),
        "class": signal > 0.5,
        "y": y,
    })  # fmt: skip


def write_table(frame: pd.DataFrame) -> tuple[dict, Table]:
    """Write a table with the target `y`, and its contract, into the current folder; parameters of train.ipynb, and the table."""
    frame.to_parquet("mixed.parquet")
    table = load_table("mixed.parquet", "y")
    training = table.frame[~split_rows(table.frame, 0.2)]
    write_json(Path("contract.json"), derive_contract(table, training, min_association=0, holdout=0.2))
    return {"data": "mixed.parquet", "n_estimators": 10, "max_categories": 20, "out": "."}, table


def execute_here(run: Path, parameters: dict[str, dict], timeout: int, progress, earlier=None) -> tuple[list[Execution], list[int]]:
    """In place of `pipeline.execute_twice`: the cells of both notebooks run here once, and nothing is compared.

    What they print goes to standard error, below a line `HERE`.
    """
    counts = []
    print(HERE, file=sys.stderr)
    for path in pipeline.NOTEBOOKS:
        with chdir(run), redirect_stdout(sys.stderr):
            run_cells(parameters[path.name], notebook=path, then=_draw)
        (run / path.name).write_bytes(path.read_bytes())
        counts.append(sum(map(is_code, nbformat.read(path, 4).cells)))
    return [Execution(run / path.name, 1.0, {}, {}) for path in pipeline.NOTEBOOKS], counts


def _draw() -> None:
    """Draw the figures of a cell, as a kernel does."""
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def ask(predictor, rows) -> tuple[int, dict]:
    """Post rows to /predict of the service's HTTP application; the status and content of the answer."""
    service, sent = SimpleNamespace(predictor=predictor), []
    messages = iter([{"type": "http.request", "body": json.dumps(rows).encode(), "more_body": False}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"content-type", b"application/json")]}
    asyncio.run(Front(None, lambda: service, Metrics("table", "1"), 10_000_000, 10)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def post(predictor, rows) -> dict:
    """The answer of a status 200."""
    status, answer = ask(predictor, rows)
    assert status == 200, answer
    return answer
