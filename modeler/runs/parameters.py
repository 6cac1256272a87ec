"""The parameters of the notebooks: read from the cell tagged `parameters`, and checked before any kernel starts.

A parameter is one line, `name: type = literal  # unit or effect`. Its comment may set limits, and values are held to them:
`one of a, b, c`, `from 0.05 to 0.5` or `at least 1`.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError, UsageError, did_you_mean

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
NUMBER = r"(-?[\d_.]*\d(?:e-?\d+)?)"
CHOICES = re.compile(r"\bone of ((?:[\w.-]+, )*[\w.-]*\w)")
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
        """Turn the text given on the command line into a value.

        A UsageError says where it is of another type or outside the limits, what was given and what is allowed.
        """
        value = self._convert(text)
        if (choices := CHOICES.search(self.comment)) and str(value) not in (allowed := choices[1].split(", ")):
            raise UsageError(
                f"{self.name} must be one of {', '.join(allowed)}, got: {text}{did_you_mean(text, allowed)}"
            )
        if self.type not in (int, float):
            return value
        if (limits := RANGE.search(self.comment)) and not float(limits[1]) <= value <= float(limits[2]):
            raise UsageError(f"{self.name} must be from {limits[1]} to {limits[2]}, got: {text}")
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
        if value != value or value in (float("inf"), float("-inf")):
            raise UsageError(f"{self.name} must be a finite number, got: {text}")
        return value


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook without running it.

    A ModelerError says where the file is no notebook, has no cell tagged `parameters`, or a line of that cell is no literal
    assignment.
    """
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except FileNotFoundError:
        raise ModelerError(f"there is no notebook {notebook}; restore it, for example with git checkout") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelerError(
            f"{notebook} is not a notebook ({error}); restore it, for example with git checkout"
        ) from None
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
        raise ModelerError(
            f"the parameters cell of {notebook.name} is not Python: {error.msg} in line {error.lineno}"
        ) from None
    parameters = [_read_parameter(statement, comments, notebook.name) for statement in statements]
    return {parameter.name: parameter for parameter in parameters}


def check_parameters(
    given: Sequence[str], notebooks: dict[str, dict[str, Parameter]], reserved: dict[str, str]
) -> dict[str, object]:
    """Check the KEY=VALUE texts of `-p` against the notebooks that take them; the typed value of every parameter given.

    Parameters
    ----------
    notebooks
        The parameters of each notebook, by its file name.
    reserved
        Parameters that an option of the command line sets, with that option's name.
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
            names = [name for name in known if name not in reserved]
            raise UsageError(
                f"-p {pair}: no notebook has a parameter {name!r}{did_you_mean(name, names)}; "
                f"{'; '.join(_list_parameters(parameters, file, reserved) for file, parameters in notebooks.items())}"
            )
        if name in checked:
            raise UsageError(f"-p {pair}: {name} is given twice; give it once")
        checked[name] = known[name].parse(text)
    return checked


def _list_parameters(parameters: dict[str, Parameter], file: str, reserved: dict[str, str]) -> str:
    return f"{file} takes {', '.join(name for name in parameters if name not in reserved)}"


def _read_comments(source: str) -> dict[int, str]:
    """The comment of every line, with the comment lines right below it."""
    comments, last = {}, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            last = last if token.line.lstrip().startswith("#") else token.start[0]
            comments[last] = f"{comments.get(last, '')} {token.string.lstrip('# ')}".strip()
    return comments


def _read_parameter(statement: ast.stmt, comments: dict[int, str], notebook: str) -> Parameter:
    where = f"line {statement.lineno} of the parameters cell of {notebook}"
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    if (
        not isinstance(statement, ast.Assign | ast.AnnAssign)
        or not isinstance(target, ast.Name)
        or statement.value is None
    ):
        raise ModelerError(f"{where} is not `name: type = literal`; move it to another cell")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ModelerError(
            f"{where}: {target.id} is computed, so it would not follow an override; give it a literal and compute in another cell"
        ) from None
    annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else type(default).__name__
    if annotation not in TYPES or not isinstance(default, (int, float) if annotation == "float" else TYPES[annotation]):
        raise ModelerError(
            f"{where}: {target.id} is {annotation} = {default!r}; a parameter is one of {', '.join(TYPES)}"
        )
    parameter = Parameter(target.id, TYPES[annotation], default, comments.get(statement.lineno, ""))
    try:
        parameter.parse(str(default))
    except UsageError as error:
        raise ModelerError(f"{where}: {error}") from None
    return parameter
