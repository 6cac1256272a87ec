"""Delete old runs, versions, bentos and images of a name: all but the newest N of each kind and those that are still needed."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from modeler import ModelerError, UsageError
from modeler.commands.options import COUNT, DEFAULT_NAME, MODEL_NAME, OK, print_result
from modeler.commands.progress import Progress

RUNS, SAMPLES, IMAGES, BENTOS, VERSIONS = "run", "sample", "image", "bento", "version"
Listed = tuple[str, str]  # of what is to go: its kind, and what it is called


@dataclass(frozen=True)
class Choice:
    """What is to go, by kind: folders by what they are called. `staying` says why the others beyond the newest stay."""

    going: dict[str, dict[str, Path]]
    staying: dict[str, str]


@click.command(
    help=__doc__,
    short_help="delete old runs, versions, bentos and images, never one that is still needed",
    epilog="Example: python pipeline.py prune orders --keep 5 --dry-run",
)
@click.argument("name", type=MODEL_NAME, default=DEFAULT_NAME)
@click.option(
    "--keep",
    metavar="N",
    type=COUNT,
    required=True,
    help="how many of the newest runs, versions and bentos stay; 0 or more",
)
@click.option("--dry-run", is_flag=True, help="list what would be deleted, and delete nothing")
@click.option(
    "--yes", is_flag=True, help="do not ask; where there is no terminal to ask on, nothing is deleted without"
)
@click.pass_obj
def prune(project: Path, name: str, keep: str, dry_run: bool, yes: bool) -> int:
    from modeler.ship.images import list_images

    runs, progress = project / "runs", Progress()
    choice = choose_old(runs, name, int(keep))
    images = list_images(name, choice.going[BENTOS])
    sizes = {(kind, label): measure_folder(path) for kind in choice.going for label, path in choice.going[kind].items()}
    sizes |= {(IMAGES, image.reference): image.size for image in images}
    print_result(describe_choice(name, sizes, choice.staying))
    if dry_run or not sizes:
        return OK
    if not yes:
        ask_person(len(sizes))
    deleted = delete_old(runs, name, int(keep), choice, images, progress)
    print_result(f"deleted {len(deleted)} of {len(sizes)}, {format_size(sum(map(sizes.get, deleted)))}")
    return OK


def choose_old(runs: Path, name: str, keep: int, listed: Mapping[str, Mapping] | None = None) -> Choice:
    """What there is of a name beyond the newest `keep` of each kind, and is needed by nothing; a ModelerError if there is nothing.

    `listed` is what a person was shown; of bentos, nothing else goes then, so that what the others pin stays.
    """
    from modeler.model.stored import StoredModel, unknown_name
    from modeler.runs import prune as old
    from modeler.runs.folders import read_start
    from modeler.store import prune as stored
    from modeler.store.publish import read_history

    folders = old.list_folders(runs)
    noted = {event["run"].partition("/")[0] for event in read_history(name) if event["run"]}
    own = {path.name: path for path in folders if path.name in noted or old.find_name(path) == name}
    versions, bentos = stored.sort_versions(name), stored.sort_bentos(name)
    if not (own or versions or bentos or noted):
        raise ModelerError(unknown_name(name))
    undecided = {path: why for path in folders if (why := old.explain_undecided(path))}
    going_bentos, staying = _part(bentos, keep, stored.explain_bentos(name, bentos))
    if listed is not None:
        going_bentos = {tag: path for tag, path in going_bentos.items() if tag in listed[BENTOS]}
    since = min(map(read_start, undecided), default=None)
    used = old.find_used(undecided, name)
    needed = stored.explain_versions(name, used, since, going_bentos.values())
    going_versions, more = _part(versions, keep, needed)
    labels = (StoredModel("", path).labels for version, path in versions.items() if version not in going_versions)
    makers = {str(told.get("run")).partition("/")[0]: "a version that stays was made in it" for told in labels}
    going_runs, rest = _part(own, keep, makers | {path.name: why for path, why in undecided.items()})
    staying |= {f"{name}:{version}": why for version, why in more.items()} | rest
    left = [path for path in folders if path.name not in going_runs]
    going_versions = {f"{name}:{version}": path for version, path in going_versions.items()}
    going = {RUNS: going_runs, SAMPLES: old.list_samples(runs, left), BENTOS: going_bentos, VERSIONS: going_versions}
    return Choice(going, staying)


def _part(
    newest_first: Mapping[str, Path], keep: int, needed: Mapping[str, str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """What goes, and why others that are no newer stay."""
    old = dict(list(newest_first.items())[keep:])
    return {key: old[key] for key in old if key not in needed}, {key: needed[key] for key in old if key in needed}


def delete_old(runs: Path, name: str, keep: int, choice: Choice, images: Iterable, progress: Progress) -> list[Listed]:
    """Delete what was listed and, as things are by now, may still go; what is deleted.

    Images go before their bentos, and these before the versions they pin, so that whoever is killed in between can begin again.
    """
    from modeler.runs.prune import delete_folder
    from modeler.ship.images import delete_image
    from modeler.store.prune import take_out

    def choose_again(*kinds: str) -> dict[Listed, Path]:
        now = choose_old(runs, name, keep, choice.going).going
        return {
            (kind, label): path for kind in kinds for label, path in choice.going[kind].items() if label in now[kind]
        }

    deleted: list[Listed] = []
    if choice.going[RUNS] or choice.going[SAMPLES]:
        for listed, folder in choose_again(RUNS, SAMPLES).items():
            delete_folder(folder)
            deleted.append(listed)
    for image in images:
        if refused := delete_image(image):
            progress.say(f"the image {image.reference} stays: {refused}")
        else:
            deleted.append((IMAGES, image.reference))
    if choice.going[BENTOS] or choice.going[VERSIONS]:
        deleted += take_out(name, lambda: choose_again(BENTOS, VERSIONS))
    return deleted


def describe_choice(name: str, sizes: Mapping[Listed, int], staying: Mapping[str, str]) -> str:
    """What is to go, with its size, and why other old ones stay, for a person."""
    kinds = Counter(kind for kind, _ in sizes)
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    lines = [
        f"{name}: {counts} to delete, {format_size(sum(sizes.values()))}" if sizes else f"{name}: nothing to delete"
    ]
    width = max(map(len, [*(label for _, label in sizes), *staying]), default=0)
    lines += [f"  {kind:<8} {label:<{width}}  {format_size(size):>10}" for (kind, label), size in sizes.items()]
    return "\n".join(lines + [f"  {'stays':<8} {label:<{width}}  {why}" for label, why in staying.items()])


def ask_person(count: int) -> None:
    """Raise an error unless a person at a terminal says yes."""
    if not sys.stdin.isatty():
        raise UsageError("prune asks on a terminal before it deletes; elsewhere give --yes. Nothing was deleted")
    try:
        agreed = click.confirm(f"Delete {'this' if count == 1 else f'these {count}'}?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise ModelerError("you did not say yes; nothing was deleted")


def measure_folder(folder: Path) -> int:
    """The bytes of the files in a folder; links count as links."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
