"""Train a stored model again from what it recorded, in a run of its own, and name what differs. It stores nothing."""

import time
from pathlib import Path

import click

from modeler import ModelerError
from modeler.commands.options import FAILED, OK, TEXT, print_result
from modeler.commands.progress import Progress
from modeler.commands.retrain import WRITES, create_run, relate


@click.command(
    help=__doc__,
    short_help="train a stored model again from what it recorded: the same hash, or what differs",
    epilog="Example: python pipeline.py reproduce orders:latest --data orders.csv",
)
@click.argument("model", metavar="MODEL_TAG")
@click.option("--data", metavar="FILE", type=TEXT, help="the data file (default: where the model's run has it from)")
@click.pass_obj
def reproduce(project: Path, model: str, data: str | None) -> int:
    from modeler.model.contract import write_json
    from modeler.model.stored import content_version, load_model
    from modeler.runs import reproduce as again
    from modeler.runs.ending import note_failure

    started, progress = time.monotonic(), Progress()
    recipe = again.read_recipe(load_model(model), project / "runs", data and Path(data).expanduser())
    notebooks = [project / "notebooks" / name for name in recipe.notebooks]
    origins, moved_on = again.compare_origins(recipe, notebooks)
    causes = origins or again.NOTHING_DIFFERS
    run = create_run(project / "runs", recipe.data, recipe.data_name)
    (run / "model").symlink_to(recipe.model.path.absolute())  # which `prune` leaves there meanwhile
    progress.say(f"execute    {' and '.join(recipe.notebooks)} of {recipe.model.tag} in {relate(run)}")
    try:
        with progress, note_failure(run):
            again.train_again(recipe, run, WRITES, progress)
    except ModelerError as error:
        lines = [f"{recipe.model.tag} cannot be trained again: {error}", *again.format_lines(causes)]
        raise ModelerError("\n".join(lines)) from None
    differing = again.compare_models(recipe.model, run)
    if differing:
        outcome = f"not reproduced: {' and '.join(differing)} differ{'' if len(differing) > 1 else 's'}"
        told = differing | again.find_first_output(recipe, run) | again.compare_answers(recipe, run) | causes
    else:
        outcome, told = "reproduced: the same graph and contract", origins
    seconds = time.monotonic() - started
    verdict = {"verdict": "different" if differing else "reproduced", "reasons": [f"{recipe.model.tag} {outcome}"]}
    candidate = f"{recipe.model.tag.partition(':')[0]}:{content_version(run)}"
    write_json(run / "verdict.json", verdict | {"candidate": candidate, "seconds": round(seconds, 3)})
    lines = again.format_lines(told | moved_on | {"run": relate(run)})
    print_result("\n".join([f"{recipe.model.tag} {outcome}, in {seconds:.0f} s", *lines]))
    return FAILED if differing else OK
