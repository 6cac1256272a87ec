"""The candidate as the gate finds it: a run's files, the raw held-out rows, and its answers to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modeler import ModelerError
from modeler.data.derive import check_table, list_classes
from modeler.data.rows import list_dealing, raw_records, split_rows
from modeler.data.tables import Table
from modeler.data.timeline import describe_split
from modeler.model.contract import class_key, read_contract, read_split, write_json
from modeler.model.graph import Graph
from modeler.model.stored import content_version
from modeler.train.estimator import answer_with_estimator, load_estimator

GOLDEN_ROWS = 32


@dataclass(frozen=True)
class Candidate:
    """A candidate with its answers to the held-out rows.

    `contract` is that of the table, `heldout` is one boolean a row of the table; `records`, `truth`, the graph's `answers`
    and those `expected` of the estimator are of the rows held out.
    """

    version: str
    contract: dict
    table: Table
    heldout: np.ndarray
    records: list[dict]
    truth: list
    answers: list[dict]
    expected: list[dict] = ()
    graph: Graph | None = None
    golden: dict | None = None


def read_candidate(run: Path, table: Table, told: dict) -> Candidate:
    """Read a run's model, have graph and estimator answer the raw held-out rows, and write golden.json.

    A ModelerError says where contract, data and parameters do not go together; damaged files raise any other error.
    """
    contract = read_contract(run / "contract.json")
    heldout = _deal_rows(table, contract, told)
    graph, version = Graph(run / "model.onnx", contract), content_version(run)
    estimator, rows = load_estimator(run / "model.skops"), table.frame[heldout]
    truth, records = rows[table.target].tolist(), raw_records(rows.drop(columns=table.target))
    answers, expected = graph.answer(records), answer_with_estimator(estimator, rows, contract)
    chosen = choose_golden([class_key(label) if contract["target"]["classes"] else "" for label in truth])
    golden = {"rows": [records[i] for i in chosen], "answers": [expected[i] for i in chosen]}
    write_json(run / "golden.json", golden)
    return Candidate(version, contract, table, heldout, records, truth, answers, expected, graph, golden)


def choose_golden(truth: Sequence[str], most: int = GOLDEN_ROWS) -> list[int]:
    """The positions of up to `most` rows, in order, taking the classes in turn so that a rare one is among them.

    `truth` holds the class of every row, or one same text for all rows of a regression.
    """
    truth = np.asarray(truth)
    turn = np.zeros(len(truth), dtype=int)
    for key in np.unique(truth):
        turn[truth == key] = np.arange((truth == key).sum())
    return sorted(np.argsort(turn, kind="stable")[:most].tolist())


def _deal_rows(table: Table, contract: dict, told: dict) -> np.ndarray:
    dealing, target = list_dealing(told), contract["target"]
    if target["name"] != table.target or contract["task"] != table.task:
        raise ModelerError(
            f"the contract is a {contract['task']} of {target['name']!r}, the data's target is {table.target!r}"
        )
    if target["classes"] != list_classes(table):
        raise ModelerError(f"the contract's classes {target['classes']} are not those of the data")
    if (noted := read_split(contract)) != (split := describe_split(table, *dealing)):
        raise ModelerError(f"the contract deals rows by {noted}, the data and the pipeline's parameters by {split}")
    check_table(table, contract)
    heldout = split_rows(table.frame, *dealing)
    if not heldout.any() or heldout.all():
        raise ModelerError(f"{heldout.sum()} of {len(heldout)} rows are held out; change holdout or bring more rows")
    return heldout
