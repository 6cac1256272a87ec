"""Exact copies of rows that stand on both sides of the split."""

import numpy as np
import pandas as pd

LOOKED_AT = 200, 5_000  # held-out and training rows, drawn at random, that tell how often rows repeat by chance
SURE = 0.001  # how seldom chance may make so many copies
FACTOR = 3  # times that what chance explains may be underestimated, as columns depend on each other


def find_copies(frame: pd.DataFrame, heldout: np.ndarray) -> tuple[np.ndarray, dict | None]:
    """Which held-out rows have an exact copy, target included, among the training rows; and a warning, or None.

    The first is one boolean for each held-out row, in order. There is no warning where chance explains the copies, as
    in a table of few different values.
    """
    codes = np.column_stack([pd.factorize(frame[name])[0] for name in frame.columns])
    rows = pd.util.hash_pandas_object(pd.DataFrame(codes), index=False).to_numpy()
    copied = np.isin(rows[heldout], rows[~heldout])
    found = int(copied.sum())
    if not found or not _is_beyond_chance(found, codes, rows, heldout):
        return copied, None
    message = (
        f"{found} of {len(copied)} held-out rows are exact copies of training rows, more than chance explains: "
        "did rows enter the data twice? If so, drop the copies, or keep them on one side with --split-by"
    )
    return copied, {"kind": "copies", "columns": [], "message": message}


def _is_beyond_chance(found: int, codes: np.ndarray, rows: np.ndarray, heldout: np.ndarray) -> bool:
    """Are there more copies than chance makes of rows that are nearly copies?

    Two rows that differ in some columns would be copies if these agreed by chance, as often as their values stand in
    other different rows: a table that repeats by chance has many such neighbours, pasted rows have none. They are
    counted for each set of columns in which rows differ, and the set that explains the most copies speaks for chance.
    The number of copies then follows Poisson's law.
    """
    from scipy.stats import poisson  # late: SciPy's statistics take a second to import

    rng = np.random.default_rng(0)
    different = np.unique(rows, return_index=True)[1]
    odds = np.empty(codes.shape)
    for column, values in enumerate(codes.T + 1):
        share = (np.bincount(values[different], minlength=values.max() + 1)[values] - 1) / len(different)
        odds[:, column] = np.log(np.maximum(share, 1e-12) / (1 - share))
    asked = rng.permutation(np.flatnonzero(heldout))[: LOOKED_AT[0]]
    drawn = rng.permutation(np.flatnonzero(~heldout))[: LOOKED_AT[1]]
    likely, places = np.zeros((len(asked), len(drawn))), np.zeros((len(asked), len(drawn)), dtype="int64")
    for column, place in enumerate(rng.integers(1 << 62, size=codes.shape[1])):
        differs = codes[asked, column][:, None] != codes[drawn, column]
        likely += np.where(differs, odds[asked, column][:, None], 0)
        places ^= np.where(differs, place, 0)  # a number for each set of columns
    near = (places != 0) & (likely > np.log(SURE / len(drawn)))
    pairs = pd.DataFrame({"asked": np.nonzero(near)[0], "places": places[near], "likely": np.exp(likely[near])})
    copies = pairs.groupby(["asked", "places"])["likely"].sum() * (~heldout).sum() / len(drawn)
    explained = (1 - np.exp(-copies)).groupby("places").sum().max() if len(pairs) else 0.0
    return bool(poisson.sf(found - 1, FACTOR * explained * heldout.sum() / len(asked)) < SURE)
