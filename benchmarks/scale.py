"""Time and peak memory of a whole retrain as the rows grow: python benchmarks/scale.py [ROWS ...]

The rows are the built-in data drawn with replacement, with noise of a tenth of each column's spread, as a .csv file. Memory is
the sum over the command's processes of what each has for itself (USS), looked at five times a second. `fit` is the cell of
train.ipynb that fits the final Pipeline and `validate` the one that cross-validates it, in the first execution; the
second execution runs each once more.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from modeler.data.tables import load_table

ROOT = Path(__file__).resolve().parent.parent
CELLS = {"fit": "pipeline.fit(", "validate": "cross_validate("}


def main(sizes: list[int]) -> None:
    print(f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB")
    columns = [
        "file MB",
        "total s",
        "before s",
        "execute s",
        "reproduce s",
        "gate s",
        "store s",
        "fit s",
        "validate s",
        "peak GB",
    ]
    print(f"{'rows':>9}" + "".join(f"{name:>12}" for name in columns))
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            figures = retrain(Path(folder), rows)
        print(f"{rows:9}" + "".join(f"{figures[name]:12.1f}" for name in columns), flush=True)


def retrain(folder: Path, rows: int) -> dict[str, float]:
    """Retrain once on this many rows in a fresh project with a fresh store."""
    shutil.copy(ROOT / "pipeline.py", folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("out"))
    path = write_table(folder / "rows.csv", rows)
    environment = os.environ | {"BENTOML_HOME": str(folder / "store"), "BENTOML_DO_NOT_TRACK": "True"}
    started, steps, peak = time.perf_counter(), {}, [0]
    process = subprocess.Popen(
        [sys.executable, "pipeline.py", "--data", path, "--target", "diagnosis"],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    watcher = threading.Thread(target=watch_memory, args=(process, peak))
    watcher.start()
    said = []
    for line in process.stderr:
        said.append(line)
        steps.setdefault(line.partition(" ")[0], time.perf_counter() - started)
    if process.wait():
        sys.exit("".join(said) + process.stdout.read())
    watcher.join()
    ended = time.perf_counter() - started
    times = [steps[name] for name in ("execute", "reproduce", "gate", "store")] + [ended]
    lasted = dict(zip(["execute s", "reproduce s", "gate s", "store s"], np.diff(times)))
    (run,) = (folder / "runs").iterdir()
    cells = json.loads((run / "train.ipynb").read_text())["cells"]
    for name, text in CELLS.items():
        (cell,) = [cell for cell in cells if cell["cell_type"] == "code" and text in "".join(cell["source"])]
        lasted[f"{name} s"] = cell["metadata"]["papermill"]["duration"]
    size = path.stat().st_size / 1e6
    return lasted | {"file MB": size, "total s": ended, "before s": times[0], "peak GB": peak[0] / 1e9}


def write_table(path: Path, rows: int) -> Path:
    frame, rng = load_table("breast_cancer").frame, np.random.default_rng(0)
    drawn = frame.iloc[rng.integers(len(frame), size=rows)].reset_index(drop=True)
    for name in drawn.columns.drop("diagnosis"):
        drawn[name] = (drawn[name] + rng.normal(scale=drawn[name].std() / 10, size=rows)).map("{:.5g}".format)
    drawn.to_csv(path, index=False)
    return path


def watch_memory(process: subprocess.Popen, peak: list[int]) -> None:
    while process.poll() is None:
        total = 0
        with suppress(psutil.Error):
            pipeline = psutil.Process(process.pid)
            for part in [pipeline, *pipeline.children(recursive=True)]:
                with suppress(psutil.Error):  # it ended meanwhile
                    total += part.memory_full_info().uss
        peak[0] = max(peak[0], total)
        time.sleep(0.2)


if __name__ == "__main__":
    main([int(rows) for rows in sys.argv[1:]] or [1_000, 10_000, 100_000, 1_000_000])
