"""The search of 20 settings on one core and on two, alternated: python benchmarks/search.py [ROWS] [ROUNDS]

train.ipynb searches for a forest by papermill, on the built-in data drawn with replacement, with noise of a hundredth of each
column's spread. What is timed is the cell of the search, with the start of its processes.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import papermill

from modeler.data.tables import load_table

ROOT = Path(__file__).resolve().parent.parent
TOLD = {"estimator": "random_forest", "tuning_iterations": 20, "data": "rows.parquet", "out": "."}


def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drawn, frame = np.random.default_rng(0), load_table("breast_cancer").frame
        frame = frame.sample(rows, replace=True, random_state=0, ignore_index=True)
        numbers = frame.select_dtypes("number")
        frame[numbers.columns] = numbers + drawn.normal(size=numbers.shape) * numbers.std().to_numpy() / 100
        frame.to_parquet(Path(folder, "rows.parquet"))
        execute(folder, "eda", {"data": "rows.parquet", "target": "diagnosis", "out": "."})
        seconds = {cores: [] for cores in ("1", "2")}
        for _ in range(rounds):
            for cores in seconds:
                os.environ["LOKY_MAX_CPU_COUNT"] = cores
                seconds[cores].append(execute(folder, "train", TOLD))
    one, two = (statistics.median(measured) for measured in seconds.values())
    print(f"{os.cpu_count()} cores, {rows} rows, 20 settings, medians of {rounds}")
    print(f"one core {one:.1f} s, two cores {two:.1f} s, {two / one:.2f} of one")


def execute(folder: str, name: str, told: dict) -> float:
    """Execute a notebook; the seconds of the cell that searches, if there is one."""
    output = Path(folder, f"{name}.ipynb")
    os.environ["PYTHONPATH"] = str(ROOT)
    papermill.execute_notebook(ROOT / "notebooks" / output.name, output, told, cwd=folder, progress_bar=False)
    cells = json.loads(output.read_text("utf-8"))["cells"]
    return sum(cell["metadata"]["papermill"]["duration"] for cell in cells if "join_cluster(cluster)" in "".join(cell["source"]))


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1"}
    rows, rounds = map(int, [*sys.argv[1:], 20_000, 3][:2] if len(sys.argv) != 2 else [sys.argv[1], 3])
    main(rows, rounds)
