"""A built-in example: a model of the built-in data, and a log of its held-out rows in which one column is shifted."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.gate.candidate import Candidate
from modeler.gate.reference import write_reference
from modeler.model.contract import used_features, write_json, write_text
from modeler.model.stored import CONTRACT
from modeler.train.confidence import measure_intervals
from modeler.train.estimator import answer_with_estimator, encode_table
from modeler.train.metrics import score_answers

NAME, TAG = "example", "example:built_in"
SHIFTED, SHIFT = "mean texture", 2  # standard deviations
FIRST, DAYS, SHIFTED_FROM = datetime(2026, 11, 1, 8), 10, 5


def make_example(folder: Path) -> tuple[str, str, str]:
    """Write a model, its prediction log and labels into a folder, and return where they are.

    The 113 held-out rows are asked over ten days; from the sixth on, "mean texture" is higher by two standard deviations.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, model = load_table("breast_cancer"), Path(folder, "model")
    heldout = split_rows(table.frame, 0.2)
    training, asked, target = table.frame[~heldout], table.frame[heldout], table.target
    contract = derive_contract(table, training, min_association=0.1, holdout=0.2)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(encode_table(training, contract), training[target])
    answers, truth = answer_with_estimator(pipeline, asked, contract), asked[target].tolist()
    write_json(model / CONTRACT, contract)
    write_json(model / "metrics.json", score_answers(answers, truth, contract["target"]))
    write_json(model / "verdict.json", {"intervals": measure_intervals(answers, truth, contract["target"])})
    write_text(model / "model.yaml", "name: {}\nversion: {}\n".format(*TAG.split(":")))
    write_reference(model, Candidate(TAG, contract, table, heldout, [], truth, answers))
    days = [DAYS * number // len(asked) for number in range(len(asked))]
    later = np.array(days) >= SHIFTED_FROM
    asked = asked.assign(**{SHIFTED: asked[SHIFTED] + SHIFT * training[SHIFTED].std() * later})
    _write_log(
        Path(folder, "log", NAME, "example.jsonl"),
        asked,
        days,
        answer_with_estimator(pipeline, asked, contract),
        contract,
    )
    labels = "".join(f"{number},0,{label}\n" for number, label in enumerate(truth))
    write_text(Path(folder, "labels.csv"), f"request_id,row,{target}\n{labels}")
    return str(model), str(Path(folder, "log")), str(Path(folder, "labels.csv"))


def _write_log(path: Path, asked, days: list[int], answers: list[dict], contract: dict) -> None:
    """A request of one row each, as the service notes it."""
    rows, lines = raw_records(asked[[feature["name"] for feature in used_features(contract)]]), []
    for number, (day, row, answer) in enumerate(zip(days, rows, answers)):
        moment = FIRST + timedelta(days=day, minutes=number)
        head = {"time": f"{moment.isoformat()}+00:00", "request_id": str(number), "row": 0, "model": TAG}
        lines.append(json.dumps(head | {"features": row, "answer": answer}))
    write_text(path, "\n".join([*lines, ""]))
