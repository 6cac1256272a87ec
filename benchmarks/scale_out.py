"""Batch scoring against a bare loop, with one worker and with two: python benchmarks/scale_out.py [ROWS [ROUNDS]]

The rows are the built-in data drawn with replacement, with noise of a hundredth of each column's spread: 30 columns of numbers
and the class. The second table has 20 of these and 10 columns of texts, the numbers of others cut into 20 parts. The model is a
random forest. The bare loop reads batches of 65,536 rows with pyarrow, has ONNX Runtime answer them with one thread, and writes
what `score` writes but the warnings, unchecked; it is a process of its own like the others, timed from start to end. Each round
takes them in turn; a line tells the median of the rounds, and the greatest memory: the worst worker's peak, of threads that of
the whole command, or the loop's.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from modeler.data.tables import load_table
from modeler.linux import read_peak_memory

ROOT = Path(__file__).resolve().parent.parent
BATCH, GROUP = 1 << 16, 1 << 17  # rows
TEXTS = 10  # columns
WAYS = "bare loop", "one worker", "two workers"


def main(rows: int = 5_000_000, rounds: int = 3) -> None:
    print(f"{os.cpu_count()} cores, {rows} rows, median of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        measure_scoring(Path(folder), rows, rounds)


def measure_scoring(folder: Path, rows: int, rounds: int) -> None:
    """Print a line for every table, form and way to score it."""
    os.environ |= {"BENTOML_HOME": str(folder / "store"), "BENTOML_DO_NOT_TRACK": "True"}
    print(f"{'':44}{'seconds':>9}{'rows/s':>10}{'of bare':>9}{'of one':>9}{'peak MB':>9}")
    for name in ("numbers", "texts"):
        train(folder, name)
        source, output = write_rows(folder / f"{name}.parquet", rows, name), folder / "out.parquet"
        forms = {"Parquet to Parquet": (source, output), "Parquet to a folder": (source, f"{folder}/out/")}
        if name == "numbers":
            forms["CSV to Parquet"] = write_csv(source), output
        for form, (read, written) in forms.items():
            measured = take_turns(
                rounds,
                lambda: loop(folder, source, name),
                lambda: score(read, written, name, 1),
                lambda: score(read, written, name, 2),
            )
            report(f"{name}, {form}", rows, measured)


def take_turns(rounds: int, *ways: Callable[[], tuple[float, int]]) -> list[tuple[float, int]]:
    """The median seconds of each way, and its greatest peak of memory."""
    taken = [[way() for way in ways] for _ in range(rounds)]
    return [(median(seconds), max(peaks)) for seconds, peaks in (zip(*turns) for turns in zip(*taken))]


def report(title: str, rows: int, measured: list[tuple[float, int]]) -> None:
    (bare, _), (one, _), _ = measured
    for way, others, (seconds, peak) in zip(WAYS, ([], [bare], [bare, one]), measured):
        ratios = "".join(f"{other / seconds:9.2f}" for other in others)
        print(f"{f'{title}, {way}':44}{seconds:9.1f}{rows / seconds:10.0f}{ratios:18}{peak / 1e6:9.0f}", flush=True)


def make_rows(rows: int, name: str, seed: int) -> pd.DataFrame:
    frame, rng = load_table("breast_cancer").frame, np.random.default_rng(seed)
    drawn = frame.iloc[rng.integers(len(frame), size=rows)].reset_index(drop=True)
    for column in drawn.columns.drop("diagnosis"):
        drawn[column] += rng.normal(scale=frame[column].std() / 100, size=rows)
    for column in frame.columns[:TEXTS] if name == "texts" else ():
        edges = np.quantile(frame[column], np.linspace(0.05, 0.95, 19))
        drawn[column] = np.array([f"part {number}" for number in range(20)], dtype=object)[
            np.searchsorted(edges, drawn[column])
        ]
    return drawn


def train(folder: Path, name: str) -> None:
    make_rows(2000, name, 1).to_parquet(folder / "train.parquet")
    words = ["--data", folder / "train.parquet", "--target", "diagnosis", "--name", name, "-p", "min_association=0"]
    run("pipeline.py", *words, "-p", "estimator=random_forest", "-p", "n_estimators=100")


def write_rows(path: Path, rows: int, name: str) -> Path:
    schema = pa.Schema.from_pandas(make_rows(1, name, 0), preserve_index=False)
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP):
            part = make_rows(min(GROUP, rows - start), name, start)
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
    return path


def write_csv(source: Path) -> Path:
    file, path = pa.parquet.ParquetFile(source), source.with_suffix(".csv")
    with pa.csv.CSVWriter(path, file.schema_arrow) as writer:
        for batch in file.iter_batches(BATCH):
            writer.write_batch(batch)
    return path


def score(source: Path, output, model: str, workers: int) -> tuple[float, int]:
    started = time.perf_counter()
    words = ["score", source, output, "--model", model, "--cluster", f"local:{workers}", "--overwrite", "--json"]
    told = json.loads(run("pipeline.py", *words))
    return time.perf_counter() - started, told["peak_memory"]


def loop(folder: Path, source: Path, model: str) -> tuple[float, int]:
    started = time.perf_counter()
    stored = folder / "store" / "models" / model
    version = (stored / "latest").read_text()
    peak = run(Path(__file__), "loop", source, folder / "bare.parquet", stored / version)
    return time.perf_counter() - started, int(peak)


def run(*words) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def run_loop(source: str, output: str, model: str) -> None:
    """The bare loop."""
    from modeler.model.contract import read_contract, used_features
    from modeler.model.graph import import_runtime

    runtime, contract = import_runtime(), read_contract(Path(model) / "contract.json")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(Path(model) / "model.onnx"), options)
    answer, classes = session.get_outputs()[-1].name, pa.array(contract["target"]["classes"])
    names = {kind: [f["name"] for f in used_features(contract) if f["type"] == kind] for kind in ("number", "category")}
    file, writer = pa.parquet.ParquetFile(source), None
    kept = [name for name in file.schema_arrow.names if name not in names["number"] + names["category"]]
    for batch in file.iter_batches(BATCH):
        numbers = np.stack([batch[name].to_numpy().astype(np.float32) for name in names["number"]], axis=1)
        inputs = {"numbers": numbers}
        if names["category"]:
            texts = [batch[name].to_numpy(zero_copy_only=False) for name in names["category"]]
            inputs["categories"] = np.stack(texts, axis=1)
        probabilities = session.run([answer], inputs)[0]
        columns = {name: batch[name] for name in kept} | {"label": classes.take(pa.array(probabilities.argmax(axis=1)))}
        columns |= {
            f"probability:{label}": column for label, column in zip(classes.to_pylist(), probabilities.T.copy())
        }
        table = pa.table(columns)
        writer = writer or pa.parquet.ParquetWriter(output, table.schema)
        writer.write_table(table)
    writer.close()
    print(read_peak_memory())


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        run_loop(*sys.argv[2:])
    else:
        main(*map(int, sys.argv[1:]))
