"""The candidate against what the champion scored when it was promoted: are the data still those of then?"""

from modeler import ModelerError, list_names
from modeler.data.drift import count_values, list_counts, list_drifted, see_column
from modeler.gate.candidate import Candidate
from modeler.gate.champion import MARGIN, compare_with_record, describe_other_question
from modeler.gate.checks import Check
from modeler.model.stored import CONTRACT, StoredModel

NAME = "as good as it was"


def check_record(champion: StoredModel | None, candidate: Candidate, now: dict, allowed: bool) -> Check:
    """Is the candidate's score not clearly lower than the one that the champion was promoted with?

    On rows that somebody broke, candidate and champion score alike; only the record shows what the score was. The candidate
    fails where the 95 % interval of roc_auc, or of the share taken off mae, lies wholly below the record less `MARGIN`. `now`
    holds the champion's metrics on the rows of today, or nothing. Of candidates as good as the champion, all rows being
    new, up to 7 % fail (measured on 40 to 1,000 rows): the record is a score by chance too.
    """
    if champion is None:
        return Check(NAME, True, None, -MARGIN, "there is no champion with a recorded score")
    if candidate.version == champion.version:
        return Check(NAME, True, 0.0, -MARGIN, "the candidate is the champion itself")
    if other := describe_other_question(champion.read(CONTRACT), candidate.contract):
        return Check(NAME, True, None, -MARGIN, f"no recorded score could be compared: {other}")
    try:
        (gain,) = compare_with_record(champion, candidate).gains
    except ModelerError as error:
        hint = "" if allowed else "; --allow-lower-score lets it pass"
        return Check(NAME, allowed, None, -MARGIN, f"no recorded score could be compared: {error}{hint}")
    interval = f"95 % interval of the {gain.unit} {gain.low:.3f} to {gain.high:.3f}"
    record = (
        f"{gain.measure} {gain.ours:.4g} against the champion's {gain.theirs:.4g} when it was promoted ({interval})"
    )
    if gain.high >= -MARGIN:
        return Check(NAME, True, gain.high, -MARGIN, f"{record}, which is not clearly worse")
    today = now.get(gain.measure)
    asked = (
        f"has {today:.4g} on these data too, so the data changed"
        if today is not None
        else "could not be asked on these data"
    )
    told = f"{record} is clearly worse. The champion {asked}. {_tell_drift(champion, candidate)}"
    way = "Passed by --allow-lower-score" if allowed else "Mend the data, or give --allow-lower-score"
    return Check(NAME, allowed, gain.high, -MARGIN, f"{told}. {way}")


def _tell_drift(champion: StoredModel, candidate: Candidate) -> str:
    """Which columns of the held-out rows are not as the champion's training rows were, the worst first."""
    reference = champion.read_reference()
    if reference is None:
        return "It has no reference.json, as models of before, so nobody can say which columns drifted"
    features, held = {feature["name"]: feature for feature in candidate.contract["features"]}, candidate.table.frame
    counted = {}
    for column in reference["columns"]:
        feature = features.get(column["name"], {})
        if feature.get("type") == column["type"]:
            values = see_column(held[candidate.heldout], feature | {"used": True})
            counted[column["name"]] = count_values(values, column), list_counts(column)
    drifted = list_drifted(counted)
    if not drifted:
        return f"No column drifted against its reference, so look at {candidate.table.target!r} itself"
    return f"Against its reference drifted {list_names(f'{name!r} (PSI {psi:.2f})' for name, psi in drifted.items())}"
