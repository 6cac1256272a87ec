"""The command line: kinds of options, and one exit status and one sentence for every way a command can end."""

import json
import os
import re
import signal
import sys
from collections.abc import Sequence

import click

from modeler import QUIET, ModelerError, UsageError, did_you_mean

OK, FAILED, USAGE, REJECTED, DRIFT, INTERRUPTED = 0, 1, 2, 3, 4, 130
DEFAULT_NAME = "breast_cancer"
EXAMPLES = """\b
Examples:
  python pipeline.py
  python pipeline.py --data orders.csv --target churned --split-by customer
  python pipeline.py -p estimator=gradient_boosting --min recall:malignant=0.95
  python pipeline.py --containerize --json

\b
Exit status: 0 promoted or unchanged, 1 something failed (unusable data included), 2 wrong usage, 3 rejected by
the gate, 130 interrupted; verify and reproduce: 0 the same, 1 different; rollback: 0 done, 1 not done, and the
champion stays; monitor: 4 drifted."""


class Text(click.ParamType):
    """A text that matches a pattern, by default any that is not blank; `told` says what it must be."""

    name = "text"

    def __init__(self, pattern: str = r"(?s).*\S.*", told: str = "must not be empty; leave the option out instead"):
        self.pattern, self.told = pattern, told

    def convert(self, value, param, ctx):
        if not re.fullmatch(self.pattern, str(value)):
            self.fail(f"{self.told}, got: {value}" if str(value).strip() else self.told, param, ctx)
        return value


# What moves a terminal's cursor, or turns the order of letters: controls but for tab and line break, and marks of direction.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
TEXT = Text()
SECONDS = Text("[1-9][0-9]{0,6}", "must be a whole number of seconds from 1 to 9999999")
ROWS = Text("[1-9][0-9]{1,8}", "must be a whole number of rows from 10 to 999999999")
COUNT = Text("[0-9]{1,6}", "must be a whole number from 0 to 999999")
MODEL_NAME = Text("[a-z0-9][a-z0-9_.-]{0,62}", "must be a model's name such as breast_cancer, without a version")


class Choice(click.Choice):
    """click's own, with the names as a person types them."""

    def get_invalid_choice_message(self, value, ctx):
        return f"invalid choice: {value!r} (choose from {', '.join(map(repr, self.choices))})"


class Commands(click.Group):
    """The retrain with its options, and the other commands beside it, which take none of these."""

    def __init__(self, *arguments, **settings):
        help_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(*arguments, context_settings=help_settings, epilog=EXAMPLES, **settings)

    def resolve_command(self, ctx, args):
        if args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise UsageError(f"there is no command {args[0]}{did_you_mean(args[0], self.commands)}; there is {known}")
        for param in ctx.command.params:
            if ctx.get_parameter_source(param.name) == click.core.ParameterSource.COMMANDLINE:
                raise UsageError(
                    f"{param.opts[0]} belongs to the retrain; {args[0]} takes only what `{args[0]} --help` shows"
                )
        return super().resolve_command(ctx, args)


def run_command(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command line; its exit status. Every mistake and every failure is one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal without the letter is no reason to fail
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
            signal.signal(ending, _interrupt)
    os.environ.update(QUIET)
    try:
        with command.make_context("pipeline.py", list(arguments)) as context:
            return command.invoke(context)
    except click.exceptions.Exit as ended:  # of --help
        return ended.exit_code
    except click.UsageError as error:
        return _report(f"{_explain(error)}; `pipeline.py --help` shows what there is", USAGE, arguments)
    except KeyboardInterrupt:
        return _report("interrupted; a run that had begun keeps what there was", INTERRUPTED, arguments)
    except UsageError as error:
        return _report(f"{error}", USAGE, arguments)
    except ModelerError as error:
        return _report(f"{error}", FAILED, arguments)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}; make room or permit it, then run again", FAILED, arguments)


def escape_controls(text: str) -> str:
    """A text that shows on a terminal what it holds, such as names of columns from a stranger's file, and does nothing there.

    Within JSON the escapes are JSON's own.
    """
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_result(result: object) -> None:
    """Print a text, or anything else as JSON. If nobody reads it any more, the exit status still tells the outcome."""
    try:
        text = result if isinstance(result, str) else json.dumps(result, indent=1, ensure_ascii=False)
        print(escape_controls(text), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(sentence: str, status: int, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        print_result({"error": sentence})
    print(f"pipeline.py: {escape_controls(sentence)}", file=sys.stderr)
    return status


def _explain(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"unrecognized arguments: {error.option_name}"
    if isinstance(error, click.BadParameter) and error.param:
        name = error.param.opts[-1] if isinstance(error.param, click.Option) else error.param.make_metavar(error.ctx)
        missing = isinstance(error, click.MissingParameter)
        return f"the following arguments are required: {name}" if missing else f"argument {name}: {error.message}"
    return error.format_message().rstrip(".")


def _interrupt(number, frame):
    raise KeyboardInterrupt
