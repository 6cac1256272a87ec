"""What dates and amounts cost, in a file and in a request: python benchmarks/columns.py [ROWS] [ROUNDS]

A .csv file of ten numbers and three categories is read by itself, with three columns of dates, and with three of amounts,
in turn; the ratios are of the medians. Then requests of one row are read and encoded with one more column of each kind,
every text for the first time, as a text that was met before is only looked up.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic_core import to_json

from modeler.data.derive import derive_contract
from modeler.data.tables import load_table
from modeler.model import dates
from modeler.model.graph import Graph
from modeler.service.body import BodyReader

ASKED = 2000  # requests a round


def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{rows} rows, {rounds} rounds")
        compare_files(Path(folder), rows, rounds)
        print(f"one row, {rounds} rounds of {ASKED} requests")
        compare_requests(Path(folder), rounds)


def compare_files(folder: Path, rows: int, rounds: int) -> None:
    plain = make_table(rows)
    tables = {"plain": plain, "dates": plain.assign(**make_dates(rows)), "amounts": plain.assign(**make_amounts(rows))}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    seconds = {name: [] for name in tables}
    for _ in range(rounds):
        for name in tables:
            started = time.monotonic()
            load_table(str(folder / f"{name}.csv"), "y")
            seconds[name].append(time.monotonic() - started)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in medians.items():
        print(f"{name:10} {median:6.2f} s, {median / medians['plain']:.2f} times plain")


def compare_requests(folder: Path, rounds: int) -> None:
    plain, kinds = make_table(ASKED), {"plain": {}}
    kinds |= {f"date {name}": {name: texts} for name, texts in make_dates(ASKED).items()}
    kinds |= {f"amount {name}": {name: texts} for name, texts in make_amounts(ASKED).items()}
    asks = {name: prepare_requests(folder, plain.assign(**column)) for name, column in kinds.items()}
    taken = {name: min(ask() for _ in range(rounds)) for name, ask in asks.items()}
    for name, seconds in taken.items():
        print(f"{name:16} {1e6 * seconds / ASKED:6.1f} µs, {1e6 * (seconds - taken['plain']) / ASKED:5.1f} more")


def prepare_requests(folder: Path, table: pd.DataFrame):
    """A function that reads and encodes a request for every row, and returns its seconds."""
    table.to_csv(folder / "asked.csv", index=False)
    read = load_table(str(folder / "asked.csv"), "y")
    contract = derive_contract(read, read.frame, min_association=0, holdout=0.2)
    bodies = [to_json([row]) for row in table.drop(columns="y").to_dict("records")]
    reader, graph = BodyReader(contract, 1), Graph(make_graph(), contract)

    def ask() -> float:
        dates._read.cache_clear()
        started = time.monotonic()
        for body in bodies:
            graph.encode(reader.read(body))
        return time.monotonic() - started

    return ask


def make_graph() -> bytes:
    """A graph that is never run: encoding needs none."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, [None])
    same = helper.make_node("Identity", ["value"], ["same"])
    graph = helper.make_graph([same], "none", [value], [helper.make_tensor_value_info("same", TensorProto.FLOAT, [None])])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def make_table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    numbers = {f"number {n}": rng.normal(size=rows).round(4) for n in range(10)}
    categories = {f"colour {n}": rng.choice(["red", "green", "blue"], rows) for n in range(3)}
    return pd.DataFrame(numbers | categories | {"y": rng.choice(["no", "yes"], rows)})


def make_dates(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    moments = [pd.Series(pd.to_datetime(rng.integers(10**9, 17 * 10**8, rows), unit="s")) for _ in range(3)]
    forms = {"ISO": "%Y-%m-%d", "German": "%d.%m.%Y", "time": "%Y-%m-%d %H:%M:%S"}
    return {name: moment.dt.strftime(form).to_numpy() for (name, form), moment in zip(forms.items(), moments)}


def make_amounts(rows: int) -> dict[str, list[str]]:
    values = np.random.default_rng(2).lognormal(8, 1, (3, rows))
    forms = {"dollars": "${:,.2f}", "kilograms": "{:.1f} kg", "percent": "{:.2f}%"}
    return {name: [form.format(value) for value in column] for (name, form), column in zip(forms.items(), values)}


if __name__ == "__main__":
    told = [int(text) for text in sys.argv[1:]]
    main(*(told + [1_000_000, 5][len(told) :]))
