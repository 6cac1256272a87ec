"""What the notebooks, the pipeline and the service share: data, contract, graph, gate and store."""

import difflib
from collections.abc import Iterable

__version__ = "0.1.0"
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "ORT_DISABLE_TELEMETRY": "1"}  # what keeps libraries from telling of their use


class ModelerError(Exception):
    """Something a person can mend: the message says what was wrong, the value, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """Show a notebook's reader the sentence alone; IPython calls this instead of printing a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(ModelerError):
    """A wrong option, parameter or value on the command line."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question in brackets that names the nearest known name, for a message; empty where none is near."""
    nearest = difflib.get_close_matches(given, [str(name) for name in known], n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def list_names(names: Iterable[str], most: int = 8) -> str:
    """The first names, and how many more there are, for a message."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name, for a message."""
    return next(iter(str(error).splitlines()), type(error).__name__)
