"""The steps of a sweep: its combinations checked, executed on a cluster, and the best of them proven like a retrain."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from modeler import ModelerError, UsageError
from modeler.commands.publish import publish_run
from modeler.commands.retrain import (
    RESERVED,
    WRITES,
    Request,
    check_fit,
    check_request,
    load_data,
    read_options,
    relate,
)
from modeler.runs.parameters import read_parameters

EDA, TRAIN = "eda.ipynb", "train.ipynb"


@dataclass(frozen=True)
class Plan:
    """A combination: the retrain's options with its `-p`, the values these set, and every parameter by notebook."""

    options: SimpleNamespace
    parameters: dict
    told: dict[str, dict]

    @property
    def name(self) -> str:
        return ", ".join(self.options.param) or "the defaults"


def list_plans(options: SimpleNamespace, notebooks: Sequence[Path]) -> list[Plan]:
    """Every combination that the options ask for, each checked by itself, without the data."""
    from modeler.sweep.grid import check_number, list_combinations, read_grid

    known = {path.name: read_parameters(path) for path in notebooks}
    grid = read_grid(options.param, known, RESERVED | {"cluster": "--cluster"})
    if len(grid.get("task", [])) > 1:
        raise UsageError("-p task takes one value in a sweep: scores of classes and of values cannot be compared")
    combinations = list_combinations(grid)
    check_number(combinations, options.yes)
    plans = []
    for pairs in combinations:
        told = SimpleNamespace(**vars(options) | {"param": pairs})
        _, parameters = read_options(told, notebooks)
        values = {name: grid[name][text] for name, _, text in (pair.partition("=") for pair in pairs)}
        plans.append(Plan(told, values, parameters))
    return plans


def check_plans(plans: list[Plan], notebooks: Sequence[Path], progress) -> Request:
    """Hold every combination to the data, which are read once per set of what eda.ipynb is told; the request of the first.

    An error names the combination that does not fit.
    """
    plan = plans[0]
    try:
        request = check_request(plan.options, notebooks, progress)
        table, heldout = request.table, request.heldout
        for number, alike in enumerate(_group_by_eda(plans)):
            if number:
                plan = alike[0]
                table, heldout = load_data(plan.options, plan.told[EDA], _Silent.say)
            for plan in alike:
                check_fit(plan.options, plan.told, table, heldout)
    except ModelerError as error:
        if len(plans) == 1:
            raise
        raise type(error)(f"combination {plan.name}: {error}") from None
    return request


def open_record(
    folder: Path,
    options: dict,
    plans: list[Plan],
    request: Request,
    notebooks: Sequence[Path],
    packages: dict,
    told: dict | None,
):
    """The record of a new sweep, or of the one whose sweep.json was read; a ModelerError if that one cannot go on."""
    from modeler.sweep.record import Sweep, make_entry, resume_sweep

    parameters = [plan.parameters for plan in plans]
    made_from = describe_origin(request, notebooks, packages)
    if told:
        record = resume_sweep(told, made_from, parameters)
    else:
        record = Sweep(folder, options, made_from, [make_entry(one) for one in parameters])
    record.write()
    return record


def describe_origin(request: Request, notebooks: Sequence[Path], packages: dict) -> dict:
    """What the scores of a sweep can only be compared with each other by: data, notebooks, code and packages."""
    from modeler.runs.provenance import describe_provenance

    provenance = describe_provenance(request.table, list(notebooks), request.parameters)
    code = {"the package modeler": provenance["modeler"], "Python": provenance["python"], "a package": packages}
    return {"the data": provenance["data"]["sha256"]} | provenance["notebooks"] | code


def execute_left(cluster, record, plans: list[Plan], data: Path | None, notebooks: Sequence[Path], progress) -> None:
    """Execute the combinations that have no score; each is recorded as it ends."""
    from modeler.sweep.step import Step
    from modeler.sweep.work import execute_combinations

    left = [position for position, entry in enumerate(record.combinations) if entry["score"] is None]
    groups, content = _group_by_eda(plans), {path.name: path.read_bytes() for path in notebooks}
    numbers = {id(plan): number for number, group in enumerate(groups) for plan in group}
    needed = sorted({numbers[id(plans[position])] for position in left})

    def make_step(name: str, plan: Plan) -> Step:
        return Step(name, content[name], plan.told[name], WRITES[name], int(plan.options.cell_timeout))

    first = [record.read_first(number) or make_step(EDA, groups[number][0]) for number in needed]
    second = [(needed.index(numbers[id(plans[one])]), make_step(TRAIN, plans[one])) for one in left]
    done = len(plans) - len(left)
    progress.say(
        f"sweep      {len(left)} of {len(plans)} combinations, {len(needed)} of {EDA}, in {relate(record.folder)}"
    )
    for place, before, result in execute_combinations(cluster, first, second, data):
        position, done = left[place], done + 1
        record.keep_first(needed[second[place][0]], before)
        entry = record.take(position, before, result, data)
        progress.say(f"  {done} of {len(plans)}  {plans[position].name}: {_describe_entry(entry, record.score)}")


def prove_best(project: Path, record, plans: list[Plan], notebooks: Sequence[Path], progress) -> tuple:
    """Take the best combination through all that a retrain goes through; what `--json` prints, its request and the checks.

    A ModelerError: none came to its end, or something changed since the sweep began.
    """
    from modeler.runs.execute import export_html
    from modeler.runs.provenance import describe_provenance
    from modeler.runs.replay import reproduce_notebooks
    from modeler.sweep.record import check_unchanged

    best = record.rank()[0]
    if best["score"] is None:
        raise ModelerError(
            f"no combination came to its end: {best['error']}\nMend the cause and start a new sweep; see {record.folder}"
        )
    position = record.combinations.index(best)
    plan, run = plans[position], Path(best["run"])
    request = check_request(plan.options, notebooks, _Silent())
    progress.say(f"best       {plan.name}: {record.score} {best['score']:.4f}, in {relate(run)}")
    origin = describe_origin(request, notebooks, record.made_from["a package"])
    check_unchanged(record.folder.name, record.made_from, origin | {"the data": record.made_from["the data"]})
    provenance = describe_provenance(request.table, list(notebooks), request.parameters) | request.asked
    number = next(number for number, group in enumerate(_group_by_eda(plans)) if plan in group)
    executions = record.read_executions(position, number)
    for execution in executions:
        export_html(execution.path)
    progress.say("reproduce  both again, side by side; every output and file is compared")
    with progress:
        compared = reproduce_notebooks(executions, run, progress, int(plan.options.cell_timeout))
    result, checks = publish_run(project, run, request, executions, compared, provenance, plan.options, progress)
    return result, request, checks


class _Silent:
    """A progress that says nothing."""

    say = staticmethod(lambda text: None)


def _group_by_eda(plans: list[Plan]) -> list[list[Plan]]:
    """The combinations for which eda.ipynb is told the same, in the order of the first of each."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(json.dumps(plan.told[EDA], sort_keys=True), []).append(plan)
    return list(groups.values())


def _describe_entry(entry: dict, score: str) -> str:
    if entry["error"]:
        return f"failed: {entry['error'].strip()}"
    return f"{score} {entry['score']:.4f} ± {entry['spread']:.4f}, {entry['seconds']:.1f} s"
