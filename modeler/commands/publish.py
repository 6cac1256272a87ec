"""A judged candidate on its way into the store, and from there into a bento and an image, proven in each."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from modeler import ModelerError


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate; `champion` is the model of the store afterwards, or None, `judgement` the one that counts."""

    candidate: str
    verdict: str
    reasons: list[str]
    champion: object
    judgement: object


def import_gate() -> None:
    """Import what the gate needs while the first kernel works; it takes seconds, and nothing of it imports Jupyter too."""
    import skops.io  # noqa: F401

    import modeler.gate.judge  # noqa: F401
    from modeler.model.graph import import_runtime

    import_runtime()


def publish_run(
    project: Path, run: Path, request, executions: list, compared: list[int], provenance: dict, options, progress
) -> tuple[dict, list]:
    """Have the gate decide on an executed and reproduced run, and build the champion if told to.

    Returns what `--json` prints, without its seconds, and the gate's checks.
    """

    def judge(champion):
        from modeler.gate.judge import judge_candidate

        rule = {"promote_if": options.promote_if, "allow_contract_change": options.allow_contract_change}
        rule["allow_lower_score"] = options.allow_lower_score
        return judge_candidate(run, request.table, request.told, request.floors, request.ceilings, champion, **rule)

    from modeler.gate.card import keep_notes, write_card

    keep_notes(project, run, request.name)
    outcome = decide_candidate(run, request, judge, provenance, options.readmit, progress, write_card)
    wanted = (options.build or options.containerize) and outcome.verdict != "rejected"
    bento, image = build_champion(project, request.name, options.containerize, progress) if wanted else (None, None)
    return {
        "run": str(run),
        "model": outcome.champion and outcome.champion.tag,
        "candidate": outcome.candidate,
        "verdict": outcome.verdict,
        "reasons": outcome.reasons,
        "warnings": outcome.judgement.warnings,
        "metrics": outcome.judgement.metrics,
        "champion_metrics": outcome.judgement.champion_metrics,
        "notebooks": [
            {"path": str(execution.path), "seconds": round(execution.seconds, 3), "cells_compared": cells}
            for execution, cells in zip(executions, compared)
        ],
        "eda_from": provenance.get("eda_from"),
        "bento": bento,
        "image": image,
    }, outcome.judgement.checks


def decide_candidate(
    run: Path, request, judge: Callable, provenance: dict, readmit: bool, progress, write_card: Callable
) -> Outcome:
    """Judge a run's candidate and, where it passes, make it the champion; note the outcome.

    If another retrain was quicker, the candidate is judged again against the new champion, under the store's lock. The
    verdict is written last, so a run that was killed has none.

    `judge` returns the gate's judgement of the candidate against a champion, or against none. `write_card` writes the
    model card into a folder, given the promotion or None, the tag, and whether it will be served. A model is no worse for
    want of a card, so one that cannot be made is a warning.
    """
    from modeler.model.contract import write_json
    from modeler.model.stored import content_version, find_champion
    from modeler.store.publish import name_run, note_rejection, publish_model

    champion, candidate = find_champion(request.name), f"{request.name}:{content_version(run)}"
    judgement = event = None

    def judge_against(champion) -> dict:
        nonlocal judgement
        against = f", against {champion.tag}" if champion else ""
        progress.say(f"gate       the graph on the raw hold-out{against}")
        judgement = judge(champion)
        judgement.checks.append(_check_withdrawal(candidate, readmit))
        return _describe_judgement(judgement, request, candidate, provenance.get("eda_from"))

    def add_card(folder: Path, event: dict | None, served: bool = False) -> None:
        _write_or_warn(partial(write_card, folder, event, candidate, served), folder, judgement.warnings)

    verdict = judge_against(champion)
    write_json(run / "provenance.json", provenance)  # a retrain has it already, a run of a sweep has not
    if judgement.passed:
        progress.say(f"store      {candidate}")

        def judge_again(champion) -> dict:
            verdict.update(judge_against(champion))
            return verdict

        rule = {"judged_against": champion.version if champion else "", "judge": judge_again}
        rule |= {"readmit": readmit, "finish": partial(add_card, served=True)}
        about = {"run": name_run(run)}, {"metrics": judgement.metrics}
        event = publish_model(run, candidate, *about, verdict=verdict, **rule)
        verdict |= {"reasons": event["reasons"]} if event else {"verdict": "unchanged"}
    else:
        note_rejection(candidate, run, judgement.metrics, judgement.reasons)
    write_json(run / "verdict.json", verdict)
    add_card(run, event if verdict["verdict"] == "promoted" else None)
    return Outcome(candidate, verdict["verdict"], verdict["reasons"], find_champion(request.name), judgement)


def _write_or_warn(write_card: Callable[[], None], folder: Path, warnings: list[dict]) -> None:
    """Write the model card; if that fails, say so among the warnings and in the folder's verdict."""
    from modeler.model.contract import read_json, write_json

    try:
        write_card()
    except Exception as error:  # whatever a template may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"there is no model card, since making it failed: {reason}"
        warning = {"kind": "no card", "columns": [], "message": message}
        warnings += [warning] if warning not in warnings else []  # the run's and the store's fail alike
        verdict = read_json(folder / "verdict.json")
        write_json(folder / "verdict.json", verdict | {"warnings": warnings})


def _describe_judgement(judgement, request, candidate: str, eda_from: str | None) -> dict:
    """What verdict.json holds."""
    return {
        "verdict": "promoted" if judgement.passed else "rejected",
        "candidate": candidate,
        "reasons": judgement.reasons,
        "warnings": judgement.warnings,
        "intervals": judgement.intervals,
        "rows_without_target": request.table.left_out,
        "eda_from": eda_from,
        "seconds": round(time.monotonic() - request.started, 3),
        "checks": [asdict(check) for check in judgement.checks],
    }


def build_champion(project: Path, name: str, containerize: bool, progress) -> tuple[str, str | None]:
    """Build the champion's bento, and its image if `containerize`, and replay the golden rows in each."""
    from modeler.ship.build import build_bento, build_image
    from modeler.ship.run import run_image, serve_bento

    progress.say("build      the champion's bento, and its golden rows there")
    bento = build_bento(project, name)
    _prove(serve_bento(bento), f"the bento {bento}")
    if not containerize:
        return bento, None
    progress.say("image      of the bento, and its golden rows there")
    image = build_image(bento)
    _prove(run_image(image), f"the image {image}")
    return bento, image


def _prove(running, what: str) -> None:
    """Replay the golden rows at a running service, and fail if an answer differs."""
    from modeler.ship.remote import replay_at_service

    with running as url:
        model, differences = replay_at_service(url)
    if differences:
        raise ModelerError("\n  ".join([f"{what} answers otherwise than {model.tag}:", *differences]))


def _check_withdrawal(candidate: str, readmit: bool):
    """The check that nobody rolled back from the candidate, or that --readmit allows it all the same."""
    from modeler.gate.checks import Check
    from modeler.store.publish import find_withdrawal

    withdrawal = find_withdrawal(candidate)
    sentence = withdrawal or f"{candidate} is not one that was rolled back from"
    return Check("not withdrawn", readmit or not withdrawal, float(bool(withdrawal)), 0.0, sentence)
