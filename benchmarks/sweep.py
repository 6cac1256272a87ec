"""A sweep of eight combinations against bare papermill, with one worker and with two: python benchmarks/sweep.py

Eight sizes of a forest on the built-in data. Bare papermill executes eda.ipynb once and train.ipynb eight times, one after the
other, in one process and with kernels as they come. A sweep is timed from its start to the line of its last combination, so with the
start of Python, checks and workers, and without the proof of the best.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = [10, 20, 30, 40, 50, 60, 70, 80]  # trees


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True", "OMP_NUM_THREADS": "1"}
        bare = measure_papermill(Path(folder))
    one, two = measure_sweep(1), measure_sweep(2)
    print(f"{os.cpu_count()} cores, {len(SIZES)} combinations")
    print(f"bare papermill, one after the other  {bare:6.1f} s")
    print(f"sweep, one worker                    {one:6.1f} s, {(one - bare) / len(SIZES):+.2f} s a combination")
    print(f"sweep, two workers                   {two:6.1f} s, {two / one:.2f} of one")


def measure_papermill(folder: Path) -> float:
    calls = [("eda", {})] + [("train", {"estimator": "random_forest", "n_estimators": size}) for size in SIZES]
    script = f"""
import papermill
for name, told in {calls}:
    source = f"{ROOT}/notebooks/{{name}}.ipynb"
    papermill.execute_notebook(source, f"{folder}/{{name}}.ipynb", told | {{"out": "."}}, cwd="{folder}", progress_bar=False)
"""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def measure_sweep(workers: int) -> float:
    words = ["pipeline.py", "sweep", "-p", "estimator=random_forest", "-p", f"n_estimators={','.join(map(str, SIZES))}"]
    words += ["--cluster", f"local:{workers}"]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith(f"  {len(SIZES)} of {len(SIZES)}  "):
            break
    else:
        sys.exit(f"the sweep ended with status {process.wait()}")
    seconds = time.perf_counter() - started
    process.terminate()
    process.communicate()
    return seconds


if __name__ == "__main__":
    main()
