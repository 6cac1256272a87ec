"""How long a proven retrain takes beside two bare papermill runs: python benchmarks/retrain.py [ROUNDS]

The commands run in turn, so that a machine that slows down slows all of them; the ratios are within a round.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BARE = "-m papermill -p out . {notebook} {name} --no-progress-bar"


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        shutil.copy(ROOT / "pipeline.py", project)
        shutil.copytree(ROOT / "notebooks", project / "notebooks", ignore=shutil.ignore_patterns("out"))
        commands = {
            "papermill eda; papermill train": [
                BARE.format(notebook=project / "notebooks" / name, name=name).split()
                for name in ("eda.ipynb", "train.ipynb")
            ],
            "pipeline.py --force": [["pipeline.py", "--force"]],
            "pipeline.py, unchanged": [["pipeline.py"]],
            "pipeline.py runs, of 500": [["pipeline.py", "runs"]],
            "pipeline.py --help": [["pipeline.py", "--help"]],
            "pipeline.py -p estimater=x": [["pipeline.py", "-p", "estimater=x"]],
        }
        seconds = {name: [] for name in commands}
        for number in range(rounds):
            for name, steps in commands.items():
                environment = os.environ | {"BENTOML_HOME": f"{folder}/store{number}", "BENTOML_DO_NOT_TRACK": "True"}
                seconds[name].append(sum(time_command(step, project, environment) for step in steps))
                if "--force" in name and number == 0:
                    copy_run(*(project / "runs").iterdir())
                print(f"round {number + 1}: {name:32} {seconds[name][-1]:6.2f} s", flush=True)
    bare, proven = seconds["papermill eda; papermill train"], seconds["pipeline.py --force"]
    ratios = sorted(ours / theirs for ours, theirs in zip(proven, bare))
    print(f"\n{os.cpu_count()} cores, {rounds} rounds        min   median      max")
    for name, values in seconds.items():
        print(f"{name:32} {min(values):6.2f} {statistics.median(values):8.2f} {max(values):8.2f} s")
    print(f"{'proven / bare':32} {ratios[0]:6.2f} {statistics.median(ratios):8.2f} {ratios[-1]:8.2f}")


def copy_run(run: Path) -> None:
    """Make 500 runs of one, whose files are the same on the disk."""
    for number in range(500 - 1):
        shutil.copytree(run, run.with_name(f"20250101-000000-{number}"), symlinks=True, copy_function=os.link)


def time_command(words: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        sys.exit(done.stderr)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
