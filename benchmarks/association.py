"""Which measures keep the signal and drop the noise, on simulated tables:
python benchmarks/association.py [REPETITIONS]

Two useful columns `a` and `b`, or one, stand among 15 of noise (normal, lognormal and categories). A table counts as
kept if every useful column is; `noise` is the share of the other columns that are kept, both in percent. `correlation`
is the article's rule, a correlation ratio of 0.1; `gini` is the project's association from 0.1; `tests` is what
`min_association=auto` does; `shadows` is the idea of Boruta (M. B. Kursa and W. R. Rudnicki, Journal of Statistical
Software 36, 2010): in three of five forests a column is more important than every shuffled column.
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import OrdinalEncoder

from modeler.data.association import measure_associations
from modeler.data.columns import feature_type, measure_correlation
from modeler.data.noise import find_noise

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.test_association import make_signal  # noqa: E402

KINDS = ["xor", "xor off the middle", "xor with a category", "difference", "u shape", "skewed", "many categories"]
KINDS += ["rare class"]


def main(repetitions: int) -> None:
    measures = {"correlation": by_correlation, "gini": by_gini, "tests": by_tests, "shadows": by_shadows}
    print(f"{'rows':>5} {'table':20}" + "".join(f"{name:>24}" for name in measures))
    for rows in (300, 1000, 5000):
        for kind in KINDS:
            frames = [make_signal(kind, rows, np.random.default_rng(seed)) for seed in range(repetitions)]
            print(
                f"{rows:5} {kind:20}" + "".join(f"{score(keep, frames):>24}" for keep in measures.values()), flush=True
            )


def score(keep, frames) -> str:
    """How often all useful columns are kept, the share of noise that is, and the time of one table."""
    started, useful, noise = time.perf_counter(), [], []
    for frame in frames:
        kept = keep(frame)
        useful.append({"a", "b"} & set(frame.columns) <= kept)
        noise.append(sum(name.startswith("noise") for name in kept) / 15)
    seconds = (time.perf_counter() - started) / len(frames)
    return f"{100 * np.mean(useful):.0f} noise {100 * np.mean(noise):.0f} {seconds:5.2f} s"


def by_correlation(frame) -> set[str]:
    names = frame.columns.drop("y")
    return {name for name in names if measure_correlation(frame[name], frame["y"], "classification") >= 0.1}


def by_gini(frame) -> set[str]:
    return {name for name, found in measure_associations(frame, "y", "classification").items() if found >= 0.1}


def by_tests(frame) -> set[str]:
    return set(frame.columns.drop("y")) - set(find_noise(frame, "y", "classification"))


def by_shadows(frame) -> set[str]:
    names, hits = frame.columns.drop("y"), 0
    texts = [name for name in names if feature_type(frame[name]) == "category"]
    values = frame[names].copy()
    values[texts] = OrdinalEncoder().fit_transform(values[texts])
    values, rng = values.to_numpy(float), np.random.default_rng(0)
    for seed in range(5):
        both = np.hstack([values, rng.permuted(values, axis=0)])
        forest = RandomForestClassifier(100, max_depth=5, class_weight="balanced_subsample", random_state=seed)
        importances = forest.fit(both, frame["y"]).feature_importances_
        hits = hits + (importances[: len(names)] > importances[len(names) :].max())
    return set(names[hits >= 3])


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
