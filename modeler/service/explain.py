"""Explanations: how much each column moves an answer away from the model's average one, as Shapley values."""

import hashlib

import numpy as np

from modeler.model.answers import VALUES
from modeler.model.contract import class_key, used_features
from modeler.model.dates import name_parts
from modeler.model.graph import Graph

EVALUATIONS = 8_000  # of the graph for a row; at least one order and its reverse for each golden row
CELLS = 1_000_000  # values that the graph is given at once: 4 MB of numbers, or 8 MB of references to texts


class Explainer:
    """Explains the answers of a graph against the model's golden rows, given raw.

    A column's contribution is its Shapley value: what the answer moves by when the column changes from a golden row's value
    to the row's own, averaged over golden rows and over the orders in which the columns change. A sample stands for all
    orders (E. Štrumbelj and I. Kononenko, Knowledge and Information Systems 41, 2014, algorithm 1). It is antithetic: each
    order comes with its reverse, which makes the values exact where columns act alone or in pairs (R. Mitchell et al.,
    Journal of Machine Learning Research 23, 2022, section 4.1).
    """

    def __init__(self, graph: Graph, rows: list[dict]):
        self._graph, self._background = graph, graph.encode(rows)
        self._base = graph.run(self._background).astype(float).reshape(len(rows), -1)
        used = used_features(graph.contract)
        self.columns = [feature["name"] for feature in used]
        self._players = {
            "numbers": [n for n, feature in enumerate(used) for _ in _list_numbers(feature)],
            "categories": [n for n, feature in enumerate(used) if feature["type"] == "category"],
        }
        pair = 2 * len(rows) * max(1, len(used) - 1)  # evaluations for an order and its reverse of every golden row
        self._orders = max(1, EVALUATIONS // pair)

    def explain(self, inputs: dict[str, np.ndarray], answers: list[dict]) -> list[int]:
        """Add `explained`, `base` and `contributions` to each answer to the graph's inputs.

        Returns the positions of the rows that have none, because the graph is not finite for a mix of them and a golden row.
        """
        target, lost = self._graph.contract["target"], []
        for position, answer in enumerate(answers):
            output, explained, value = 0, target["name"], answer.get(VALUES[0])
            if classes := target["classes"]:
                output = classes.index(target.get("positive", answer["label"]))
                explained = class_key(classes[output])
                value = answer["probabilities"][explained]
            row = {name: values[position : position + 1] for name, values in inputs.items()}
            contributions = self._estimate(row, output)
            base = float(self._base[:, output].mean())
            # the answer's rounding, some 1e-8, goes to the greatest, so that a column without effect has 0
            contributions[np.abs(contributions).argmax()] += value - base - contributions.sum()
            if not np.isfinite(contributions).all():
                lost.append(position)
            answer["explained"], answer["base"] = explained, base
            answer["contributions"] = dict(zip(self.columns, contributions.tolist()))
        return lost

    def _estimate(self, row: dict[str, np.ndarray], output: int) -> np.ndarray:
        """The Shapley value of each column, shape (columns,); they add up to the row's output less the golden rows' mean.

        The ranks of the columns, shape (orders, columns), say when each column changes. After `step` changes of an order
        the columns of a lower rank are the row's own. Before as many changes of its reverse it is the other way round.
        """
        golden, columns = len(self._base), len(self.columns)
        draws = np.random.RandomState(_seed(row)).random_sample((self._orders * golden, columns))
        ranks = draws.argsort(axis=1, kind="stable")
        start = np.tile(self._base[:, output], self._orders)[:, None]
        end = np.full_like(start, self._graph.run(row).reshape(1, -1)[0, output])
        owned = ranks[:, None, :] < np.arange(1, columns)[:, None]  # (orders, steps, columns)
        forward = np.hstack([start, self._ask(row, owned, output), end])
        backward = np.hstack([end, self._ask(row, ~owned, output), start])
        moves = np.diff(forward - backward, axis=1)
        return np.take_along_axis(moves, ranks, axis=1).mean(axis=0) / 2

    def _ask(self, row: dict[str, np.ndarray], owned: np.ndarray, output: int) -> np.ndarray:
        """The graph's output for mixes of a row and the golden rows in turn, shape (orders, steps).

        `owned` says which columns are the row's own. It has the shape (orders, steps, columns).
        """
        orders, steps, columns = owned.shape
        answers, at_once = np.empty((orders, steps)), max(1, CELLS // max(1, steps * columns))
        for first in range(0, orders if steps else 0, at_once):
            part = owned[first : first + at_once]
            golden = np.arange(first, first + len(part)) % len(self._base)
            mixed = {
                name: np.where(part[:, :, self._players[name]], row[name], values[golden][:, None])
                for name, values in self._background.items()
            }
            given = self._graph.run({name: values.reshape(-1, values.shape[-1]) for name, values in mixed.items()})
            answers[first : first + at_once] = given.reshape(len(given), -1)[:, output].reshape(-1, steps)
        return answers


def _list_numbers(feature: dict) -> list[str]:
    """The numbers that a model sees of a column."""
    if feature["type"] == "date":
        return name_parts(feature)
    return [] if feature["type"] == "category" else [feature["name"]]


def _seed(row: dict[str, np.ndarray]) -> np.ndarray:
    """The seed of a row, from what the model sees of it, so that it is the same in every request and process."""
    digest = hashlib.sha256()
    for name in sorted(row):
        values = row[name]
        digest.update((values + 0.0).tobytes() if name == "numbers" else "\0".join(values[0]).encode())  # -0.0 is 0.0
    return np.frombuffer(digest.digest(), dtype=np.uint32)
