"""What the training rows looked like, and the answers to those held out, as reference.json keeps it for the monitor."""

from pathlib import Path

import numpy as np

from modeler.data.drift import describe_column, see_column
from modeler.gate.candidate import Candidate
from modeler.model.contract import class_key, used_features, write_json
from modeler.model.stored import REFERENCE


def write_reference(run: Path, candidate: Candidate) -> None:
    """Write reference.json into a run's folder, whatever a notebook wrote there."""
    write_json(run / REFERENCE, describe_reference(candidate))


def describe_reference(candidate: Candidate) -> dict:
    """Counts of each used column in the raw training rows, and of the answers to the held-out rows; see `describe_column`."""
    contract, training = candidate.contract, candidate.table.frame[~candidate.heldout]
    return {
        "rows": len(training),
        "held_out": len(candidate.truth),
        "columns": [
            {
                "name": feature["name"],
                "type": feature["type"],
                **describe_column(see_column(training, feature), feature["type"]),
            }
            for feature in used_features(contract)
        ],
        "answers": [
            {"name": name, "type": "number", **describe_column(np.array(values, dtype=np.float32), "number")}
            for name, values in list_answers(candidate.answers, contract["target"]).items()
        ],
    }


def list_answers(answers: list[dict], target: dict) -> dict[str, list[float]]:
    """The probabilities by class, or the values by the target's name."""
    if not target["classes"]:
        return {target["name"]: [answer["value"] for answer in answers]}
    keys = [class_key(label) for label in target["classes"]]
    return {key: [answer["probabilities"][key] for answer in answers] for key in keys}
