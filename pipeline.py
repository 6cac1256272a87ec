"""Retrain: execute the notebooks, prove the result, and make it the champion of the BentoML store."""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

from modeler import ModelerError, UsageError
from modeler.notebooks import CELL_TIMEOUT, execute_notebook, export_html, reproduce_notebooks
from modeler.parameters import check_parameters, read_parameters
from modeler.progress import Progress

ROOT = Path(__file__).resolve().parent
EDA, TRAIN = ROOT / "notebooks" / "eda.ipynb", ROOT / "notebooks" / "train.ipynb"
NEEDS = {EDA: ["data", "target", "split_by", "holdout", "out"], TRAIN: ["data", "out"]}  # parameters it relies on
WRITES = {EDA: ["contract.json"], TRAIN: ["model.onnx", "model.skops", "metrics.json"]}
RESERVED = {"data": "--data", "target": "--target", "split_by": "--split-by", "out": "the run itself"}
RELOAD = "reload     kill -HUP PID of a running `bentoml serve`; no request is lost"
OK, FAILED, USAGE, REJECTED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal without the letter is no reason to fail
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
            signal.signal(ending, _interrupt)
    try:
        options = parse_options(arguments)
        does = {
            None: retrain,
            "verify": verify,
            "history": show_history,
            "rollback": roll_back,
            "reproduce": train_again,
        }
        return does[options.command](options)
    except KeyboardInterrupt:
        return report_error("interrupted; a run that had begun keeps what there was", INTERRUPTED, arguments)
    except UsageError as error:
        return report_error(f"{error}", USAGE, arguments)
    except ModelerError as error:
        return report_error(f"{error}", FAILED, arguments)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return report_error(
            f"{where}{error.strerror or error}; make room or permit it, then run again", FAILED, arguments
        )


def retrain(options: argparse.Namespace) -> int:
    """Make a candidate of the data and, if it passes, the champion."""
    started, progress = time.monotonic(), Progress()
    parameters = collect_parameters(options)
    told = parameters[EDA.name]
    table, floors, ceilings = check_request(options, told, progress)

    from modeler.provenance import describe_provenance
    from modeler.store import find_champion

    run = create_run(ROOT / "runs")
    provenance = describe_provenance(table, [EDA, TRAIN], parameters)  # a notebook may be saved anew meanwhile
    with ThreadPoolExecutor(1) as background:
        background.submit(_import_gate)
        executions = execute(run, parameters, options.cell_timeout, progress)
        pages = background.submit(export_pages, executions)
        compared = reproduce(run, executions, options.cell_timeout, progress)
    pages.result()
    name = options.name or table.name
    champion = find_champion(name)
    judgement = judge(run, table, parameters, floors, ceilings, champion, options, progress)
    outcome = publish(run, name, champion, judgement, provenance, options.readmit, progress)
    wanted = (options.build or options.containerize) and outcome.verdict != "rejected"
    bento, image = build(name, options.containerize, progress) if wanted else (None, None)

    result = {
        "run": str(run),
        "model": outcome.champion and outcome.champion.tag,
        "candidate": outcome.candidate,
        "verdict": outcome.verdict,
        "reasons": outcome.reasons,
        "metrics": judgement.metrics,
        "champion_metrics": judgement.champion_metrics,
        "notebooks": [
            {"path": str(execution.path), "seconds": round(execution.seconds, 3), "cells_compared": cells}
            for execution, cells in zip(executions, compared)
        ],
        "bento": bento,
        "image": image,
        "seconds": round(time.monotonic() - started, 3),
    }
    text = describe_result(result, table.notes, judgement.checks)
    _print(json.dumps(result, indent=1, ensure_ascii=False) if options.json else text)
    return REJECTED if outcome.verdict == "rejected" else OK


def execute(run: Path, parameters: dict[str, dict], timeout: int, progress: Progress) -> list:
    """Execute both notebooks with papermill, eda before train."""
    progress.say(f"execute    {EDA.name} and {TRAIN.name} in {_relative(run)}")
    with progress:
        return [
            execute_notebook(path, run, parameters[path.name], WRITES[path], progress, timeout) for path in (EDA, TRAIN)
        ]


def export_pages(executions: list) -> None:
    """Write both executed notebooks as HTML pages."""
    for execution in executions:
        export_html(execution.path)


def reproduce(run: Path, executions: list, timeout: int, progress: Progress) -> list[int]:
    """Execute the executed notebooks again with nbval and compare; how many cells of each were."""
    progress.say("reproduce  both again, side by side; every output and file is compared")
    with progress:
        return reproduce_notebooks(executions, run, progress, timeout)


def judge(
    run: Path,
    table,
    parameters: dict[str, dict],
    floors: dict,
    ceilings: dict,
    champion,
    options: argparse.Namespace,
    progress: Progress,
):
    """Have the gate judge the candidate on the raw hold-out, alone and against the champion."""
    from modeler.gate import judge_candidate

    told = parameters[EDA.name] | parameters[TRAIN.name]
    progress.say(f"gate       the graph on the raw hold-out{f', against {champion.tag}' if champion else ''}")
    rule = {"promote_if": options.promote_if, "allow_contract_change": options.allow_contract_change}
    return judge_candidate(run, table, told, floors, ceilings, champion, **rule)


def publish(
    run: Path, name: str, champion, judgement, provenance: dict, readmit: bool, progress: Progress
) -> SimpleNamespace:
    """Write provenance and verdict and, where the gate was passed, make the candidate the champion; note what came about.

    The verdict is written when it holds: a run that was ended before has none.
    """
    from modeler import store
    from modeler.contract import write_json

    candidate = f"{name}:{store.content_version(run)}"
    judgement.checks.append(check_withdrawal(candidate, readmit))
    verdict = {
        "verdict": "promoted" if judgement.passed else "rejected",
        "reasons": judgement.reasons,
        "checks": [asdict(check) for check in judgement.checks],
    }
    write_json(run / "provenance.json", provenance)
    if judgement.passed:
        progress.say(f"store      {candidate}")
        labels, metadata = {"run": run.name}, {"metrics": judgement.metrics}
        rule = {"verdict": verdict, "readmit": readmit, "judged_against": champion.version if champion else ""}
        event = store.publish_model(run, candidate, labels, metadata, **rule)
        verdict |= {"reasons": event["reasons"]} if event else {"verdict": "unchanged"}
    write_json(run / "verdict.json", verdict)
    if not judgement.passed:
        store.note_rejection(candidate, run, judgement.metrics, judgement.reasons)
    return SimpleNamespace(
        candidate=candidate,
        verdict=verdict["verdict"],
        reasons=verdict["reasons"],
        champion=store.find_champion(name),
    )


def check_withdrawal(candidate: str, readmit: bool):
    """The check that nobody rolled back from the candidate, or that --readmit allows it all the same."""
    from modeler.gate import Check
    from modeler.store import find_withdrawal

    withdrawal = find_withdrawal(candidate)
    sentence = withdrawal or f"{candidate} is not one that was rolled back from"
    return Check("not withdrawn", readmit or not withdrawal, float(bool(withdrawal)), 0.0, sentence)


def build(name: str, containerize: bool, progress: Progress) -> tuple[str, str | None]:
    """Build the champion's bento, and its image where that is asked for; the golden rows are replayed in each."""
    from modeler.bento import build_bento, build_image, run_image, serve_bento

    progress.say("build      the champion's bento, and its golden rows there")
    bento = build_bento(ROOT, name)
    prove(serve_bento(bento), f"the bento {bento}")
    if not containerize:
        return bento, None
    progress.say("image      of the bento, and its golden rows there")
    image = build_image(bento)
    prove(run_image(image), f"the image {image}")
    return bento, image


def prove(running, what: str) -> None:
    """Replay the golden rows at what is running, and fail where an answer differs."""
    from modeler.remote import replay_at_service

    with running as url:
        model, differences = replay_at_service(url)
    if differences:
        raise ModelerError("\n  ".join([f"{what} answers otherwise than {model.tag}:", *differences]))


def verify(options: argparse.Namespace) -> int:
    """Replay the golden rows of a stored model, in the store, in a bento, in an image or at a running service."""
    from modeler.bento import run_image, serve_bento
    from modeler.golden import replay_golden
    from modeler.graph import Graph
    from modeler.remote import replay_at_service
    from modeler.store import GRAPH, load_model

    if options.bento or options.image:
        with serve_bento(options.bento) if options.bento else run_image(options.image) as url:
            model, differences = replay_at_service(url)
        place = f" in the {f'bento {options.bento}' if options.bento else f'image {options.image}'}"
    elif options.url:
        model, differences = replay_at_service(options.url)
        place = f" at {options.url}"
    else:
        model, place = load_model(options.model), ""
        contract, golden = model.read("contract.json"), model.read("golden.json")
        differences = replay_golden(golden, contract, Graph(model.path / GRAPH, contract).answer)
    if differences:
        _print("\n  ".join([f"{model.tag}{place} differs from its golden rows:", *differences]))
        return FAILED
    forms = ", singly and as a batch" + (", in every form of a request" if place else "")
    _print(
        f"{model.tag}{place} answers its {len(model.read('golden.json')['rows'])} golden rows as the estimator did{forms}"
    )
    return OK


def show_history(options: argparse.Namespace) -> int:
    """Show what was promoted, rejected and rolled back of a name, oldest first."""
    from modeler.history import format_history
    from modeler.store import find_champion, list_versions, read_history, unknown_name

    events, champion = read_history(options.model_name), find_champion(options.model_name)
    if not events and not list_versions(options.model_name):
        raise ModelerError(unknown_name(options.model_name))
    if options.json:
        _print(json.dumps(events, indent=1, ensure_ascii=False))
    else:
        table = format_history(events, champion and champion.version)
        _print(table if events else f"nothing was noted of {options.model_name} yet")
    return OK


def roll_back(options: argparse.Namespace) -> int:
    """Make an older version the champion again, once it has answered its golden rows, and withdraw the present one."""
    from modeler import store
    from modeler.predictor import load_predictor

    name, started = options.model_name, time.monotonic()
    event = store.roll_back(name, options.to, lambda model: load_predictor(model.tag, sys.maxsize))
    lines = [
        f"{name}:{event['version']} is the champion again, its golden rows answered, in {time.monotonic() - started:.1f} s"
    ]
    if event["before"]:
        lines.append(f"  withdrawn  {name}:{event['before']}; a retrain promotes it with --readmit alone")
    _print("\n".join([*lines, f"  {RELOAD}"]))
    return OK


def train_again(options: argparse.Namespace) -> int:
    """Train a stored model again from what it recorded, in a run of its own, and name what differs. It stores nothing."""
    started, progress = time.monotonic(), Progress()

    from modeler import reproduce as again
    from modeler.store import load_model

    recipe = again.read_recipe(load_model(options.model))
    origins, moved_on = again.compare_origins(recipe, [EDA, TRAIN])
    causes = origins or again.NOTHING_DIFFERS
    run = create_run(ROOT / "runs")
    progress.say(f"execute    {EDA.name} and {TRAIN.name} of {recipe.model.tag} in {_relative(run)}")
    writes = {path.name: files for path, files in WRITES.items()}
    try:
        with progress:
            again.train_again(recipe, run, writes, progress)
    except ModelerError as error:
        lines = [f"{recipe.model.tag} cannot be trained again: {error}", *again.format_lines(causes)]
        raise ModelerError("\n".join(lines)) from None
    differing = again.compare_models(recipe.model, run)
    if differing:
        outcome = f"not reproduced: {' and '.join(differing)} differ{'' if len(differing) > 1 else 's'}"
        told = differing | again.find_first_output(recipe, run) | again.compare_answers(recipe, run) | causes
    else:
        outcome, told = "reproduced: the same graph and contract", origins
    lines = again.format_lines(told | moved_on | {"run": _relative(run)})
    _print("\n".join([f"{recipe.model.tag} {outcome}, in {time.monotonic() - started:.0f} s", *lines]))
    return FAILED if differing else OK


def collect_parameters(options: argparse.Namespace) -> dict[str, dict]:
    """Every parameter of each notebook, defaults and overrides, typed and checked."""
    known = {path.name: read_parameters(path) for path in (EDA, TRAIN)}
    for path, names in NEEDS.items():
        if missing := [name for name in names if name not in known[path.name]]:
            raise ModelerError(
                f"{path.name} lacks the parameter {missing[0]}, which the pipeline relies on; "
                "restore its line in the cell tagged `parameters`"
            )
    given = check_parameters(options.param, known, RESERVED)
    data = str(Path(options.data).expanduser().resolve()) if Path(options.data).suffix else options.data
    given |= {"data": data, "target": options.target or "", "split_by": options.split_by or "", "out": "."}
    return {
        file: {name: given.get(name, parameter.default) for name, parameter in known[file].items()} for file in known
    }


def check_request(options: argparse.Namespace, told: dict, progress: Progress):
    """Load the data, hold the options to them, and see that store and engine are there, before any kernel starts."""
    from modeler.contract import class_key, list_classes
    from modeler.data import check_split, load_table, slugify, split_rows, warn_of_leaks
    from modeler.metrics import BUILT_IN_FLOORS, check_bounds
    from modeler.reading import CsvFormat
    from modeler.store import check_writable

    if options.name and options.name != slugify(options.name):
        raise UsageError(
            f"--name {options.name}: a model's name is of a-z, 0-9 and _, at most 40, such as {slugify(options.name) or 'orders'}"
        )
    table = load_table(options.data, options.target or "", told.get("task", "auto"), CsvFormat.from_parameters(told))
    if options.split_by == table.target:
        raise UsageError(f"--split-by {options.split_by}: this is the target; name a column such as a patient id")
    progress.say(f"data       {table.name}, {len(table.frame)} rows, {table.frame.shape[1]} columns")
    for note in [*table.notes, *warn_of_leaks(table)]:
        progress.say(f"           {note}")
    check_split(table, split_rows(table.frame, told["holdout"], options.split_by or ""))
    positive, classes = told.get("positive", ""), list_classes(table)
    keys = [class_key(label) for label in classes or []]
    if positive and (len(keys) != 2 or positive not in keys):
        among = f"one of {' and '.join(keys)}" if len(keys) == 2 else f"left out: {table.target!r} has not two classes"
        raise UsageError(f"-p positive={positive}: the class looked for must be {among}")
    floors, ceilings = check_bounds(options.min, "--min", classes), check_bounds(options.max, "--max", classes)
    floors = BUILT_IN_FLOORS.get((options.data, table.target), {}) | floors
    check_writable()
    if options.containerize:
        from modeler.bento import check_engine

        check_engine()
    return table, floors, ceilings


def create_run(runs: Path) -> Path:
    """Make the folder of a new run, named by the time and the process."""
    run = runs / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{os.getpid()}"
    try:
        run.mkdir(parents=True)
    except OSError as error:
        raise ModelerError(
            f"the run's folder {run} cannot be made: {error.strerror}; make room or permit writing there"
        ) from None
    return run


def describe_result(result: dict, notes: Sequence[str], checks: Sequence) -> str:
    """A retrain's outcome for a person: the gate's checks, those that failed first, and what the data were taken for."""
    name = result["candidate"].partition(":")[0]
    cells = sum(notebook["cells_compared"] for notebook in result["notebooks"])
    scores = ", ".join(f"{metric} {value:.3f}" for metric, value in result["metrics"].items() if value is not None)
    lines = [
        f"{result['candidate']} {result['verdict']} in {result['seconds']:.0f} s, {cells} cells compared",
        *(describe_check(check) for check in sorted(checks, key=lambda check: check.passed)),
        *(f"  {'' if number else 'data':10} {note}" for number, note in enumerate(notes)),
        f"  hold-out   {scores or 'not scored'}",
        f"  champion   {result['model'] or 'none'}",
        f"  run        {_relative(result['run'])}",
    ]
    if result["bento"]:
        lines.append(f"  bento      {result['bento']}")
    if result["image"]:
        lines.append(f"  image      {result['image']}")
    if result["verdict"] == "promoted":
        lines.append(f"  {RELOAD}")
    if result["model"]:
        lines.append(f"  serve it   bentoml serve{'' if name == 'breast_cancer' else f' --arg model={name}'}")
    return "\n".join(lines)


def describe_check(check) -> str:
    """A check of the gate on one line: its number and its threshold stand in brackets."""
    number, threshold = ("-" if value is None else f"{value:.4g}" for value in (check.value, check.threshold))
    return f"  {'passed' if check.passed else 'FAILED':10} {check.name} ({number}, {threshold}): {check.sentence}"


def report_error(sentence: str, status: int, arguments: list[str]) -> int:
    """Say what went wrong, as JSON too where that was asked for."""
    if "--json" in arguments:
        _print(json.dumps({"error": sentence}, ensure_ascii=False))
    print(f"pipeline.py: {sentence}", file=sys.stderr)
    return status


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; a mistake raises a UsageError."""
    parser = _Parser(
        prog="pipeline.py",
        usage="pipeline.py [OPTIONS]\n       pipeline.py verify MODEL_TAG | --bento TAG | --image TAG | --url URL"
        "\n       pipeline.py history [NAME] [--json]\n       pipeline.py rollback [NAME] [--to VERSION]"
        "\n       pipeline.py reproduce MODEL_TAG",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="NAME|FILE",
        type=_text,
        default="breast_cancer",
        help="breast_cancer (built in, the default), or a .csv or .parquet file",
    )
    add("--target", metavar="COLUMN", type=_text, help="the column to predict (with a file: required)")
    add(
        "--name", metavar="NAME", type=_text, help="the model's name in the store (default: the data's name, as a slug)"
    )
    add("--split-by", metavar="COLUMN", type=_text, help="keep rows that share this value on one side of the split")
    add("-p", "--param", metavar="KEY=VALUE", action="append", default=[], help="a notebook parameter, repeatable")
    add(
        "--min",
        metavar="METRIC=VALUE",
        action="append",
        default=[],
        help="a floor for the gate, repeatable: accuracy, balanced_accuracy, roc_auc, f1_macro, recall:CLASS, precision:CLASS; r2",
    )
    add(
        "--max",
        metavar="METRIC=VALUE",
        action="append",
        default=[],
        help="a ceiling for the gate, repeatable: log_loss; mae, rmse",
    )
    add(
        "--promote-if",
        choices=["not-worse", "better"],
        default="not-worse",
        help="the rule against the champion, by the 95 %% interval of the difference in roc_auc or r2: not wholly below "
        "-0.01, or wholly above 0 (default: not-worse)",
    )
    add(
        "--allow-contract-change",
        action="store_true",
        help="promote although callers of the champion would break",
    )
    add(
        "--cell-timeout",
        metavar="SECONDS",
        type=_positive,
        default=CELL_TIMEOUT,
        help=f"how long one cell may run (default: {CELL_TIMEOUT})",
    )
    add("--build", action="store_true", help="also build the bento of the champion, and replay the golden rows there")
    add(
        "--containerize",
        action="store_true",
        help="also build the bento and its image, and replay the golden rows there",
    )
    add("--readmit", action="store_true", help="promote a version that was rolled back from")
    add("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="other commands", prog="pipeline.py")
    command = commands.add_parser(
        "verify",
        help="replay the golden rows of a stored model, there, in a bento, in an image or at a service",
        description=verify.__doc__,
    )
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("model", metavar="MODEL_TAG", nargs="?", help="in the store: NAME, NAME:latest or NAME:VERSION")
    where.add_argument("--bento", metavar="TAG", help="in a bento of the local store, run for it")
    where.add_argument("--image", metavar="TAG", help="in an image of the local Docker engine, run for it")
    where.add_argument("--url", metavar="URL", help="at a running service, in every form that a request may have")
    for name, does, told in (
        ("history", show_history, "what was promoted, rejected or rolled back, when, by whom, from which run and why"),
        ("rollback", roll_back, "make an older version the champion again"),
    ):
        command = commands.add_parser(name, help=told, description=does.__doc__)
        named = {"dest": "model_name", "metavar": "NAME", "nargs": "?", "type": _model_name, "default": "breast_cancer"}
        command.add_argument(help="the model's name in the store (default: breast_cancer)", **named)
        if does is show_history:
            command.add_argument("--json", action="store_true", help="print a list of objects, oldest first")
        else:
            command.add_argument(
                "--to", metavar="VERSION", type=_text, help="the version (default: the champion before, not withdrawn)"
            )
    command = commands.add_parser(
        "reproduce",
        help="train a stored model again from what it recorded: the same hash, or what differs",
        description=train_again.__doc__,
    )
    command.add_argument("model", metavar="MODEL_TAG", help="in the store: NAME, NAME:latest or NAME:VERSION")
    options = parser.parse_args(arguments)
    if options.command and arguments[0] != options.command:
        raise UsageError(
            f"{arguments[0]} belongs to the retrain; {options.command} takes only what `{options.command} --help` shows"
        )
    if options.command is None and Path(options.data).suffix and not options.target:
        raise UsageError(f"--data {options.data} needs --target COLUMN, the column to predict")
    return options


EPILOG = """\
exit status: 0 promoted or unchanged, 1 something failed (unusable data included), 2 wrong usage, 3 rejected by the
gate, 130 interrupted; verify and reproduce: 0 the same, 1 different; rollback: 0 done, 1 not done, and the champion
stays"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message):
        raise UsageError(f"{message}; `{self.prog} --help` shows what there is")


def _positive(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number of seconds from 1 to 9999999, got: {text}")
    return int(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty; leave the option out instead")
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9_.-]{0,62}", text):
        raise argparse.ArgumentTypeError(
            f"must be a model's name such as breast_cancer, without a version, got: {text}"
        )
    return text


def _print(text: str) -> None:
    """Print to standard output; where nobody reads it any more, the exit status still says what came about."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _relative(path: Path | str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def _import_gate() -> None:
    """Import what the gate needs while the first kernel works; together it takes seconds."""
    import nbconvert  # noqa: F401
    import skops.io  # noqa: F401

    import modeler.gate  # noqa: F401
    from modeler.graph import import_runtime

    import_runtime()


def _interrupt(number, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
