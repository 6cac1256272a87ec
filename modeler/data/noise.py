"""Which columns cannot be told from noise, neither alone nor together with another one."""

import numpy as np
import pandas as pd

from modeler.data.association import LEVELS, MOST_ROWS, code_target, draw_rows, group_values, order_values
from modeler.data.dates import spread_dates

LEVEL = 0.05  # how often one test takes a column of noise for signal
TENTHS = np.arange(1, 10) / 10
HALVES, QUARTERS = [0.5], [0.25, 0.5, 0.75]
PAIR_LEVELS = 6  # groups of a column of categories in a pair
BLOCK = 50  # columns that are paired with all others at a time
WORK = 4e10  # multiplications that the pairs may take
FEWEST_ROWS = 500  # rows that the pairs are looked at in at least


def find_noise(frame: pd.DataFrame, target: str, task: str) -> list[str]:
    """The columns that no test tells from noise, each at the 5 % level.

    Alone: the trend of the ranks and its bend, and the spread over ten groups (W. H. Kruskal and W. A. Wallis, Journal
    of the American Statistical Association 47, 1952; for classes it is K. Pearson's chi-square, 1900). Together: a
    pair's cells, by halves and by quarters, against the groups of the other one (the interaction tests of W.-Y. Loh,
    Statistica Sinica 12, 2002, with Bonferroni's correction for the number of others), and the slope beside all other
    numbers. A class may be rare and numbers skewed, since the tests look at ranks; in doubt, as where the cells are
    thin, they find signal. A date is noise if each of its parts is, at the level divided by their number.
    """
    frame = draw_rows(frame, target, task).reset_index(drop=True)
    spread, owners = spread_dates(frame)
    orders = {name: order_values(spread[name]) for name in spread.columns.drop(target)}
    parts = pd.Series(owners).map(pd.Series(owners).value_counts())
    levels = LEVEL / parts[list(orders)]
    values, free = _scale_target(frame[target], task)
    found = {name for name, order in orders.items() if _test_groups(order, values, free) < levels[name]}
    numeric = [name for name, order in orders.items() if order.dtype.kind == "f"]
    if numeric:
        ranks = _standardise(np.column_stack([orders[name] for name in numeric]))
        for test in (_test_slopes(ranks, values, free), _test_slopes(_standardise(ranks**2), values, free),
                     _test_slopes_together(ranks, values, free)):  # fmt: skip
            found |= {name for name, p in zip(numeric, test) if p < levels[name]}
    if len(found) < len(orders) > 1:
        found |= _find_pairs(spread, orders, target, task, levels)
    return [name for name in frame.columns.drop(target) if name not in {owners[part] for part in found}]


def _scale_target(target, task) -> tuple[np.ndarray, int]:
    """The target's columns so that a group's sum, squared and divided by its rows, counts as chi-square; its
    freedom."""
    values = code_target(target, task)
    if values.shape[1] == 1:
        return _standardise(values), 1
    share = values.mean(axis=0)
    return (values - share) / np.sqrt(share), len(share) - 1


def _standardise(values: np.ndarray) -> np.ndarray:
    centred = values - np.nanmean(values, axis=0)
    spread = np.nanstd(values, axis=0)
    return np.nan_to_num(centred / np.where(spread > 0, spread, 1))


def _test_groups(order, values, free) -> float:
    from scipy.stats import chi2  # late: SciPy's statistics take a second to import

    groups = group_values(order, TENTHS, LEVELS)
    counts = np.bincount(groups)
    between = sum((np.bincount(groups, value) ** 2 / counts).sum() for value in values.T)
    return chi2.sf(between, (len(counts) - 1) * free) if len(counts) > 1 else 1.0


def _test_slopes(ranks, values, free) -> np.ndarray:
    from scipy.stats import chi2

    rows = np.maximum(1, (ranks**2).sum(axis=0))
    return chi2.sf(((ranks.T @ values) ** 2).sum(axis=1) / rows, free)


def _test_slopes_together(ranks, values, free) -> np.ndarray:
    """Wald's test of each coefficient in the linear regression on all ranks; no finding where the rows are few."""
    from scipy.stats import chi2

    rows, columns = ranks.shape
    if rows < 3 * columns:
        return np.ones(columns)
    inverse = np.linalg.pinv(ranks.T @ ranks, rcond=1e-9, hermitian=True)
    slopes = inverse @ ranks.T @ values
    left = ((values - ranks @ slopes) ** 2).sum() / free / (rows - columns)
    return chi2.sf((slopes**2).sum(axis=1) / np.maximum(np.diag(inverse) * left, 1e-12), free)


def _find_pairs(frame, orders, target, task, levels) -> set[str]:
    """The columns that tell more of the target than each other one does without them."""
    width = len(orders) * (len(QUARTERS) + 1)
    rows = int(WORK / width**2 / (1 + frame[target].nunique() * (task == "classification")))
    drawn = draw_rows(frame, target, task, min(MOST_ROWS, max(FEWEST_ROWS, rows)))
    values, free = _scale_target(drawn[target], task)
    found = set()
    for edges in (HALVES, QUARTERS):
        groups = [group_values(order[drawn.index], edges, PAIR_LEVELS) for order in orders.values()]
        gains = _test_pairs(groups, values.astype("float32"), free) * (len(orders) - 1)
        found |= {name for name, p in zip(orders, gains) if p < levels[name]}
    return found


def _test_pairs(groups: list[np.ndarray], values: np.ndarray, free: int) -> np.ndarray:
    """For each column the smallest p-value of what it adds to the groups of another one."""
    from scipy.stats import chi2

    rows, sizes = len(values), np.array([codes.max() + 1 for codes in groups])
    starts = np.cumsum(sizes) - sizes
    cells = np.zeros((rows, sizes.sum()), dtype="float32")
    for codes, start in zip(groups, starts):
        cells[np.arange(rows), start + codes] = 1
    alone = np.add.reduceat(((cells.T @ values) ** 2).sum(axis=1) / cells.sum(axis=0), starts)
    smallest = []
    for first in range(0, len(groups), BLOCK):
        own = slice(first, first + BLOCK)
        block = cells[:, starts[own][0] : starts[own][-1] + sizes[own][-1]]
        counts = cells.T @ block
        sums = sum((cells.T @ (block * value[:, None])) ** 2 for value in values.T)
        parts = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), (counts > 0).astype(int)
        inner = starts[own] - starts[own][0]
        between, filled = (np.add.reduceat(np.add.reduceat(part, starts, axis=0), inner, axis=1) for part in parts)
        added = (filled - sizes[:, None]) * free
        within = np.maximum(rows * free - between, 1e-9) / np.maximum((rows - filled) * free, 1)
        p = np.where(added > 0, chi2.sf((between - alone[:, None]) / within, np.maximum(added, 1)), 1.0)
        smallest.append(p.min(axis=0))
    return np.concatenate(smallest)
