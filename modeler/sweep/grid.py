"""The combinations of a sweep: every value of each parameter with every value of the others."""

import itertools
from collections.abc import Mapping, Sequence

from modeler import UsageError
from modeler.runs.parameters import CHOICES, Parameter, check_parameters

MOST = 200  # combinations that need no --yes


def read_grid(
    given: Sequence[str], notebooks: Mapping[str, Mapping[str, Parameter]], reserved: Mapping[str, str]
) -> dict[str, dict[str, object]]:
    """The values of each parameter, by the text they were given as, from the KEY=A,B,… texts of `-p`.

    A comma parts values, but not those of a text that may hold any words, such as `columns`: each `-p` is one of its values.
    Every parameter may be given several times. A UsageError names an unknown parameter, a value that is not allowed, and one
    that is given twice.
    """
    known = {name: parameter for parameters in notebooks.values() for name, parameter in parameters.items()}
    grid: dict[str, dict[str, object]] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        for value in text.split(",") if equals and name in known and is_split(known[name]) else [text]:
            (typed,) = check_parameters([f"{name}{equals}{value}"], notebooks, reserved).values()
            values = grid.setdefault(name, {})
            if typed in values.values():
                raise UsageError(
                    f"-p {pair}: {name}={value} is given twice, and so would be its combinations; give it once"
                )
            values[value] = typed
    return grid


def is_split(parameter: Parameter) -> bool:
    """Whether a comma parts two values of a parameter."""
    return parameter.type is not str or bool(CHOICES.search(parameter.comment))


def list_combinations(grid: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """The KEY=VALUE texts of each combination; the last parameter varies first."""
    pairs = [[f"{name}={text}" for text in values] for name, values in grid.items()]
    return [list(combination) for combination in itertools.product(*pairs)]


def check_number(combinations: Sequence, is_allowed: bool) -> None:
    """Raise a UsageError if there are very many combinations and nobody said yes to that."""
    if len(combinations) > MOST and not is_allowed:
        raise UsageError(
            f"these are {len(combinations)} combinations; more than {MOST} need --yes, and --dry-run lists them"
        )
