"""The parameters of the notebooks, read from the cell tagged `parameters` and checked before any kernel starts.

A parameter is one line, `name: type = literal  # unit or effect`. Its comment may set limits: `one of a, b, c`,
`from 0.05 to 0.5` or `at least 1`. A text with `from … to …` is such a number or, with `one of`, one of these words; a word
`recall:SHARE` stands for a share of more than 0, up to 1.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError, UsageError, did_you_mean

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
NUMBER = r"(-?[\d_.]*\d(?:e-?\d+)?)"
CHOICES = re.compile(r"\bone of ((?:[\w.:-]+, )*[\w.:-]*\w)")
RANGE = re.compile(rf"\bfrom {NUMBER} to {NUMBER}")
LEAST = re.compile(rf"\bat least {NUMBER}")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    type: type
    default: str | int | float | bool
    comment: str

    def parse(self, text: str) -> str | int | float | bool:
        """Turn a text from the command line into a value; a UsageError says what is allowed."""
        value, is_number = self._convert(text), self.type in (int, float)
        choices, limits = CHOICES.search(self.comment), RANGE.search(self.comment)
        limits = limits if is_number or choices else None
        words = choices[1].split(", ") if choices else []
        written = f"{value:g}" if self.type is float else str(value)
        is_allowed = any(_is_choice(written, word) for word in words) or (limits and _is_within(text, limits))
        if (choices or limits) and not is_allowed:
            told = f"one of {', '.join(words)}" if words else ""
            told += (", or " if words and limits else "") + (f"from {limits[1]} to {limits[2]}" if limits else "")
            raise UsageError(f"{self.name} must be {told}, got: {text}{did_you_mean(text, words)}")
        if not is_number:
            return value
        if (least := LEAST.search(self.comment)) and not value >= float(least[1]):
            raise UsageError(f"{self.name} must be at least {least[1]}, got: {text}")
        return value

    def _convert(self, text: str) -> str | int | float | bool:
        if self.type is str:
            return text
        if self.type is bool:
            if text.lower() not in ("true", "false"):
                raise UsageError(f"{self.name} must be true or false, got: {text}")
            return text.lower() == "true"
        try:
            value = self.type(text)
        except ValueError:
            kind = "a whole number" if self.type is int else "a number"
            raise UsageError(f"{self.name} must be {kind}, got: {text}") from None
        if self.type is float and not math.isfinite(value):
            raise UsageError(f"{self.name} must be a finite number, got: {text}")
        return value


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook without running it.

    A ModelerError: the file is not a notebook, has no cell tagged `parameters`, or a line of it is no literal assignment.
    """
    mend = "restore it, for example with git checkout"
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except FileNotFoundError:
        raise ModelerError(f"there is no notebook {notebook}; {mend}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelerError(f"{notebook} is not a notebook ({error}); {mend}") from None
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ModelerError(
            f"{notebook.name} has {f'{len(tagged)} cells' if tagged else 'no cell'} tagged `parameters`; "
            "tag the one cell that sets its parameters (JupyterLab: property inspector, Cell Tags)"
        )
    source = "".join(tagged[0]["source"])
    try:
        statements, comments = ast.parse(source).body, _read_comments(source)
    except SyntaxError as error:
        where = f"{error.msg} in line {error.lineno}"
        raise ModelerError(f"the parameters cell of {notebook.name} is not Python: {where}") from None
    parameters = [_read_parameter(statement, comments, notebook.name) for statement in statements]
    return {parameter.name: parameter for parameter in parameters}


def check_parameters(
    given: Sequence[str], notebooks: dict[str, dict[str, Parameter]], reserved: dict[str, str]
) -> dict[str, object]:
    """Check the KEY=VALUE texts of `-p`, and return the typed value of each.

    `notebooks` holds the parameters of each notebook by its file name, `reserved` the parameters that another option sets,
    with the name of that option.
    """
    known = {name: parameter for parameters in notebooks.values() for name, parameter in parameters.items()}
    checked = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-p {pair}: a parameter is given as KEY=VALUE, such as -p seed=7")
        if name in reserved:
            raise UsageError(f"-p {pair}: {name} is set by {reserved[name]}")
        if name not in known:
            free = {file: [key for key in parameters if key not in reserved] for file, parameters in notebooks.items()}
            hint = did_you_mean(name, known.keys() - reserved.keys())
            takes = "; ".join(f"{file} takes {', '.join(names)}" for file, names in free.items())
            raise UsageError(f"-p {pair}: no notebook has a parameter {name!r}{hint}; {takes}")
        if name in checked:
            raise UsageError(f"-p {pair}: {name} is given twice; give it once")
        checked[name] = known[name].parse(text)
    return checked


def _is_within(text: str, limits: re.Match) -> bool:
    try:
        return float(limits[1]) <= float(text) <= float(limits[2])
    except ValueError:
        return False


def _is_choice(text: str, choice: str) -> bool:
    if not choice.endswith(":SHARE"):
        return text == choice
    word, _, share = text.partition(":")
    try:
        return word == choice.removesuffix(":SHARE") and 0 < float(share) <= 1
    except ValueError:
        return False


def _read_comments(source: str) -> dict[int, str]:
    """The comment of each line, together with the comment lines below it."""
    comments, last = {}, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            last = last if token.line.lstrip().startswith("#") else token.start[0]
            comments[last] = f"{comments.get(last, '')} {token.string.lstrip('# ')}".strip()
    return comments


def _read_parameter(statement: ast.stmt, comments: dict[int, str], notebook: str) -> Parameter:
    where = f"line {statement.lineno} of the parameters cell of {notebook}"
    is_assignment = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    if not is_assignment or not isinstance(target, ast.Name):
        raise ModelerError(f"{where} is not `name: type = literal`; move it to another cell")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        what = "is computed, so it would not follow an override; give it a literal and compute in another cell"
        raise ModelerError(f"{where}: {target.id} {what}") from None
    annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else type(default).__name__
    if annotation not in TYPES or not isinstance(default, (int, float) if annotation == "float" else TYPES[annotation]):
        kinds = f"a parameter is one of {', '.join(TYPES)}"
        raise ModelerError(f"{where}: {target.id} is {annotation} = {default!r}; {kinds}")
    parameter = Parameter(target.id, TYPES[annotation], default, comments.get(statement.lineno, ""))
    try:
        parameter.parse(str(default))
    except UsageError as error:
        raise ModelerError(f"{where}: {error}") from None
    return parameter
