"""The retrain that need not be executed, since nothing that decides an answer changed since the champion was made."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from modeler import ModelerError, first_line, list_names
from modeler.commands.publish import build_champion
from modeler.commands.retrain import read_options


def find_unchanged(project: Path, notebooks: Sequence[Path], options: SimpleNamespace, progress) -> dict | None:
    """What `--json` prints, without its seconds, where nothing changed; the champion's bento and image are built if told to.

    None where the notebooks are to be executed: the reason is said if there is a champion. It reads no table, so that it
    takes a second, and leaves every mistake but those of parameters to the retrain.
    """
    from modeler.gate.bounds import find_floors
    from modeler.model.stored import find_champion, slugify
    from modeler.runs.provenance import hash_data
    from modeler.runs.unchanged import COMPARED, describe_inputs

    data, parameters = read_options(options, notebooks)
    champion = None
    with suppress(OSError):  # a store that cannot be read, which the retrain explains
        champion = find_champion(options.name or slugify(Path(data or options.data).stem) or "table")
    sha256 = hash_data(data) if champion else None
    if champion is None or (data and sha256 is None):
        return None
    floors = find_floors(options.data, options.target) | read_bounds(options.floors)
    now = describe_inputs(notebooks, parameters) | {"file_sha256": sha256, "floors": floors}
    now["ceilings"] = read_bounds(options.ceilings)
    try:
        run, changed = find_maker(champion, project / "runs", now)
        changed = changed or check_champion(champion)
    except (ModelerError, TypeError, AttributeError) as error:
        changed = [first_line(error)]  # its provenance.json is damaged
    if changed:
        progress.say(f"changed    since {champion.tag} was made: {list_names(changed)}")
        return None
    sentence = (
        f"nothing changed since run {run} arrived at {champion.tag}: compared were {COMPARED}, and it answers its golden rows; "
        "--force executes all the same"
    )
    return describe_champion(champion, sentence) | build(project, champion, options, progress)


def find_maker(champion, runs: Path, now: dict) -> tuple[str, list[str]]:
    """The run that arrived at the champion from the inputs of now, and what changed if none did.

    That need not be the run it was promoted from: one with newer packages, say, may have found it unchanged.
    """
    from modeler.model.contract import read_json
    from modeler.runs.unchanged import list_changes

    changed = list_changes(champion.read("provenance.json"), now)
    if not changed:
        return champion.labels.get("run", ""), []
    for path in sorted(runs.glob("*/verdict.json"), reverse=True):
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):  # a run that somebody damaged
            verdict = read_json(path)
            passed = verdict["verdict"] in ("promoted", "unchanged") and verdict.get("candidate") == champion.tag
            if passed and not list_changes(read_json(path.with_name("provenance.json")), now):
                return path.parent.name, []
    return "", changed


def read_bounds(bounds: Sequence[str]) -> dict[str, object]:
    """METRIC=VALUE texts as they are noted; one that is wrong, or given twice, is like none that was ever noted."""
    read: dict[str, object] = {}
    for metric, _, value in (bound.rpartition("=") for bound in bounds):
        try:
            read[metric] = float(value) if metric not in read else None
        except ValueError:
            read[metric] = None
    return read


def check_champion(champion) -> list[str]:
    """What is wrong with a champion, such as an answer to a golden row that is not the estimator's; empty if nothing is."""
    from modeler.model.contract import read_contract
    from modeler.model.golden import replay_golden
    from modeler.model.graph import Graph
    from modeler.model.stored import CONTRACT, GRAPH, find_damage

    if damage := find_damage(champion):
        return [damage]
    try:
        contract = read_contract(champion.path / CONTRACT)
        graph = Graph(champion.path / GRAPH, contract)
        champion.read("verdict.json")
        differences = replay_golden(champion.read("golden.json"), contract, graph.answer)
    except ModelerError as error:
        return [first_line(error)]
    except Exception as error:  # damaged files fail in many ways
        return [f"it cannot answer its golden rows ({type(error).__name__}: {first_line(error)})"]
    return [f"its answers to golden rows ({differences[0]})"] if differences else []


def describe_champion(champion, sentence: str) -> dict:
    """What `--json` prints of a champion for which nothing was executed."""
    metrics = {name: value for name, value in champion.read("metrics.json").items() if name != "cv"}
    return {
        "run": None,
        "model": champion.tag,
        "candidate": champion.tag,
        "verdict": "unchanged",
        "reasons": [sentence],
        "warnings": champion.read("verdict.json").get("warnings", []),
        "metrics": metrics,
        "champion_metrics": metrics,
        "notebooks": [],
        "eda_from": None,
    }


def build(project: Path, champion, options: SimpleNamespace, progress) -> dict:
    """The tags of the champion's bento and image, where the options ask for them."""
    if not (options.build or options.containerize):
        return {"bento": None, "image": None}
    if options.containerize:
        from modeler.ship.build import check_engine

        check_engine()
    name = champion.tag.partition(":")[0]
    return dict(zip(("bento", "image"), build_champion(project, name, options.containerize, progress)))
