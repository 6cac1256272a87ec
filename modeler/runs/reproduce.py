"""Training a stored model again from what it recorded, and naming the differences in origins, model and answers."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from modeler import ModelerError
from modeler.data.dialect import CsvFormat
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import hash_table, list_dealing, raw_records, split_rows
from modeler.data.sample import SAMPLES, take_sample
from modeler.data.tables import Table, load_table
from modeler.model.answers import VALUES
from modeler.model.contract import class_key, read_contract, write_json
from modeler.model.graph import Graph
from modeler.model.stored import CONTRACT, GRAPH, StoredModel, content_version
from modeler.runs.execute import Report, execute_notebook
from modeler.runs.provenance import describe_surroundings, find_notebook, find_version

CELL_TIMEOUT = 86_400  # seconds; a model does not record the limit of its retrain
INJECTED = "injected-parameters"  # papermill's tag of the cell that it adds
SHOWN = 4  # number of differences of a contract that are named
NOTHING_DIFFERS = {
    "cause": "not in what was recorded: data, parameters, packages, code, Python and platform are the same; "
    "look for randomness without a seed, environment variables or another kind of processor"
}


@dataclass(frozen=True)
class Recipe:
    """What a stored model was made from: its provenance, its executed notebooks, and the data as they are today.

    `data` is their file, None for built-in data.
    """

    model: StoredModel
    provenance: dict
    notebooks: dict[str, nbformat.NotebookNode]
    data: Path | None
    table: Table
    sha256: str

    @property
    def parameters(self) -> dict[str, dict]:
        return self.provenance["parameters"]

    @property
    def data_name(self) -> str:
        """The notebooks' name of the data file."""
        return Path(self.parameters["eda.ipynb"]["data"]).name


def read_recipe(model: StoredModel, runs: Path, given: Path | None = None) -> Recipe:
    """Read what a model recorded, and its data: the file `given`, or the one that the model's own run in `runs` links to.

    A ModelerError: the model lacks provenance or notebooks of a retrain, or the data are gone or cannot be read.
    """
    provenance = model.read("provenance.json")
    try:
        notebooks = {name: _read_notebook(model, name) for name in ("eda.ipynb", "train.ipynb")}
        told = {name: dict(provenance["parameters"][name]) for name in notebooks}["eda.ipynb"]
        data, target, dealing = told["data"], told["target"], list_dealing(told)
        was = "{rows} rows, {columns} columns and the SHA-256 {sha256}".format(**provenance["data"])
        _ = dict(provenance["packages"]), dict(provenance["notebooks"])
        _ = provenance["python"], provenance["platform"], provenance["git"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelerError(
            f"{model.tag} cannot be trained again: its provenance.json is not that of a retrain "
            f"({type(error).__name__}: {error}); `python pipeline.py` makes a model anew"
        ) from None
    file = _find_data(model, data, runs, given, was) if Path(data).suffix else None
    if given and (sample := provenance["data"].get("sample")):
        written = CsvFormat.from_parameters(told)
        file = take_sample(file, sample["asked"], sample["by"] or "", written, runs / SAMPLES).path
    try:
        table = load_table(str(file or data), target, told.get("task", "auto"), CsvFormat.from_parameters(told))
        table = settle_rare_classes(table, told.get("rare_classes", "refuse"), *dealing)
    except ModelerError as error:
        what = f"the data of {model.tag}, which had {was}, cannot be read in the same way today"
        raise ModelerError(f"{what}: {error}") from None
    return Recipe(model, provenance, notebooks, file, table, hash_table(table.frame))


def compare_origins(recipe: Recipe, project: list[Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Compare what the model recorded with today: what can make a difference, and what has merely moved on.

    Both are sentences by the name of what differs. The project's notebooks of today, or those of the recorded commit, show
    whether the stored ones were altered.
    """
    then, now = recipe.provenance, describe_surroundings(project[0].parent)
    differing, moved_on = {}, {}
    if recipe.sha256 != then["data"]["sha256"]:
        rows, columns = recipe.table.frame.shape
        differing["data"] = (
            f"SHA-256 {_say(then['data']['sha256'][:12], recipe.sha256[:12])}; "
            f"{_say(then['data']['rows'], rows, ' rows')}; {_say(then['data']['columns'], columns, ' columns')}"
        )
    for path in project:
        told, ran = recipe.parameters[path.name], recipe.notebooks[path.name].metadata.papermill.parameters
        for name in told | ran:
            if told.get(name) != ran.get(name):
                differing[f"-p {name}"] = (
                    f"{told.get(name)!r} in provenance.json, but {path.name} was executed with {ran.get(name)!r}"
                )
        sha256 = then["notebooks"].get(path.name)
        original = find_notebook(path, sha256, then["git"])
        if original and list_sources(nbformat.reads(original, 4)) != list_sources(recipe.notebooks[path.name]):
            differing[path.name] = "altered in the store: its cells are not those of the notebook that was recorded"
        elif not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            moved_on[path.name] = "the project's has changed since; the one that the model carries was executed"
    for name, version in then["packages"].items():
        if version != (found := find_version(name)):
            differing[name] = f"{version or 'not installed'} then, {found or 'not installed'} now"
    for name in ("python", "platform"):
        if then[name] != now[name]:
            differing[name] = _say(then[name], now[name])
    known_by = "modeler" if "modeler" in then else "git"  # early models have no hash of the package
    if then[known_by] != now[known_by]:
        differing["modeler"] = f"its code was changed, {_say(_show_commit(then['git']), _show_commit(now['git']))}"
    return differing, moved_on


def train_again(recipe: Recipe, run: Path, writes: Mapping[str, list[str]], report: Report) -> None:
    """Execute the model's own notebooks with the recorded parameters in a run's folder.

    Once is enough: the retrain proved that they give the same twice. `writes` names the files that each must leave.
    """
    for name in recipe.notebooks:
        told = recipe.parameters[name]
        told |= {"cluster": ""} if "cluster" in told else {}  # who searches makes no difference, and may be gone
        execute_notebook(recipe.model.path / name, run, told, writes[name], report, CELL_TIMEOUT)
        if CONTRACT in writes[name] and "split" not in recipe.model.read(CONTRACT):
            _write_as_before(run / CONTRACT)


def compare_models(model: StoredModel, run: Path) -> dict[str, str]:
    """Say how graph and contract of a run differ from those of a stored model; empty for the same hash."""
    if content_version(run) == model.version:
        return {}
    sides = (model.path, run)
    graphs = [hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()[:12] for folder in sides]
    contracts = [(folder / CONTRACT).read_bytes() for folder in sides]
    differing = {} if graphs[0] == graphs[1] else {"graph": f"SHA-256 {_say(*graphs)}"}
    if contracts[0] != contracts[1]:
        differing["contract"] = _compare_contracts(*(read_contract(folder / CONTRACT) for folder in sides))
    return differing


def find_first_output(recipe: Recipe, run: Path) -> dict[str, str]:
    """Name the first cell whose output differs from the stored notebook."""
    for name, stored in recipe.notebooks.items():
        again = nbformat.read(run / name, 4)
        for then, now in zip(_list_outputs(stored), _list_outputs(again)):
            if then != now:
                return {"first seen": f"in {name}, cell [{now[0]}], which shows something else"}
    return {}


def compare_answers(recipe: Recipe, run: Path) -> dict[str, str]:
    """Say how far apart the answers of the stored graph and of the run's graph are.

    Both answer the held-out rows of today's data and, if the data differ, also the golden rows.
    """
    graphs = [Graph(folder / GRAPH, read_contract(folder / CONTRACT)) for folder in (recipe.model.path, run)]
    told, frame = recipe.parameters["eda.ipynb"], recipe.table.frame
    heldout = frame[split_rows(frame, *list_dealing(told))].drop(columns=recipe.table.target)
    apart = {"held-out rows": _measure_distance(lambda: raw_records(heldout), *graphs)}
    if recipe.sha256 != recipe.provenance["data"]["sha256"]:
        apart["golden rows"] = _measure_distance(lambda: recipe.model.read("golden.json")["rows"], *graphs)
    return apart


def format_lines(named: dict[str, str]) -> list[str]:
    """Lines for a person, with the names in one column."""
    return [f"  {name:<14} {sentence}" for name, sentence in named.items()]


def _find_data(model: StoredModel, name: str, runs: Path, given: Path | None, was: str) -> Path:
    """The file that a model was trained on: the one given, or the one that the model's run links to."""
    linked = runs / str(model.labels.get("run")) / name  # models of the first version name the whole path
    if (file := given or linked).exists():
        return file.resolve()
    lost = f"{given or name}, which {model.tag} was trained on, {'does not exist' if given else 'is gone'}"
    raise ModelerError(f"{lost}; it had {was}. Name the file with --data FILE")


def _read_notebook(model: StoredModel, name: str) -> nbformat.NotebookNode:
    """An executed notebook of a model, with cells and the parameters that papermill noted."""
    try:
        notebook = nbformat.read(model.path / name, 4)
        nbformat.validate(notebook)
        _ = dict(notebook.metadata.papermill.parameters), notebook.metadata.language_info.name
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):
        raise ModelerError(
            f"{model.tag} cannot be trained again: it carries no {name} that a retrain executed; "
            "`python pipeline.py` makes a model anew"
        ) from None
    return notebook


def _write_as_before(path: Path) -> None:
    """Write a contract as models of before have it, whose train.ipynb reads `holdout`."""
    contract = read_contract(path)
    split = contract.pop("split")
    write_json(path, contract | {"holdout": {"share": split["share"], "split_by": split["by"]}})


def list_sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Kind and source of every cell except the one that papermill adds."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]


def _list_outputs(notebook: nbformat.NotebookNode) -> list[tuple[int, str, list[dict]]]:
    """Number, printed text and shown objects of every code cell that a retrain compares."""
    return [
        (
            cell.execution_count,
            "".join(output.text for output in cell.outputs if "text" in output),
            [output.data for output in cell.outputs if "data" in output],
        )
        for cell in notebook.cells
        if cell.cell_type == "code" and not {INJECTED, "nbval-ignore-output"} & {*cell.metadata.get("tags", [])}
    ]


def _compare_contracts(then: dict, now: dict) -> str:
    """Name the values that differ, such as "rows", "threshold of target" and "min of mean radius"."""
    features = [{feature["name"]: feature for feature in contract["features"]} for contract in (then, now)]
    differing = [f"column {name} only then" for name in features[0] if name not in features[1]]
    differing += [f"column {name} only now" for name in features[1] if name not in features[0]]
    if not differing and [*features[0]] != [*features[1]]:
        differing = ["order of the columns"]
    parts = [("", then, now)]
    parts += [(f" of {name}", then[name], now.get(name) or {}) for name in then if isinstance(then[name], dict)]
    parts += [(f" of {name}", features[0][name], features[1][name]) for name in features[0] if name in features[1]]
    for of, ours, theirs in parts:
        for name in ours | theirs:
            pair = ours.get(name), theirs.get(name)
            if pair[0] != pair[1] and not isinstance(pair[0], dict) and name != "features":
                differing.append(f"{name}{of} {_say(*(json.dumps(value, ensure_ascii=False) for value in pair))}")
    more = [f"and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
    return "; ".join(differing[:SHOWN] + more) or "the same content, written otherwise"


def _measure_distance(read_rows: Callable[[], list[dict]], then: Graph, now: Graph) -> str:
    try:
        if not (rows := read_rows()):
            return "none"
        pairs = list(zip(then.answer(rows), now.answer(rows)))
    except Exception as error:  # onnxruntime's errors share no other base class
        what = f"there is no column {error}" if isinstance(error, KeyError) else f"{error}"
        return f"cannot be answered by both: {what}"
    if then.contract["task"] != now.contract["task"]:
        return f"{len(pairs)}, answered by a {_say(then.contract['task'], now.contract['task'])}"
    if not then.contract["target"]["classes"]:
        largest = max(
            abs(theirs[name] - ours[name])
            for theirs, ours in pairs
            for name in VALUES
            if name in theirs and name in ours
        )
        return f"{len(pairs)}, their values at most {_round(largest)} apart"
    largest = max(
        abs(theirs["probabilities"].get(key, 0) - ours["probabilities"].get(key, 0))
        for theirs, ours in pairs
        for key in theirs["probabilities"] | ours["probabilities"]
    )
    labels = sum(class_key(theirs["label"]) != class_key(ours["label"]) for theirs, ours in pairs)
    return f"{len(pairs)}, their probabilities at most {_round(largest)} apart, {labels} with another label"


def _round(distance: float) -> str:
    return f"{float(f'{distance:.2g}'):g}"


def _say(then, now, unit: str = "") -> str:
    return f"{then}{unit}" if then == now else f"{then}{unit} then, {now} now"


def _show_commit(git: dict | None) -> str:
    if not git:
        return "no commit"
    return f"commit {git['commit'][:7]}{' with changes' if git['dirty'] else ''}"
