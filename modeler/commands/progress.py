"""Progress on standard error: a bar for every notebook on a terminal, now and then a plain line elsewhere."""

import sys
import time

from modeler.commands.options import escape_controls

SECONDS = 5  # between two plain lines of one notebook


class Progress:
    """Callable with a notebook's name, the cells done and the cells there are; its bars live in a with block."""

    def __init__(self):
        self._bars, self._tasks, self._shown = None, {}, {}

    def say(self, text: str) -> None:
        """Announce a step."""
        print(escape_controls(text), file=sys.stderr, flush=True)

    def __call__(self, name: str, done: int, cells: int) -> None:
        if self._bars:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=cells)
            self._bars.update(self._tasks[name], completed=done, total=cells)
        elif done < cells and time.monotonic() - self._shown.setdefault(name, time.monotonic()) >= SECONDS:
            self._shown[name] = time.monotonic()
            self.say(f"  {name}: {done} of {cells} cells")

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            cells = TextColumn("cell {task.completed:.0f} of {task.total:.0f}")
            columns = TextColumn("{task.description:<18}"), BarColumn(30), cells, TimeElapsedColumn()
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_) -> None:
        """Take the bars off the screen."""
        if self._bars:
            self._bars.stop()
        self._bars, self._tasks, self._shown = None, {}, {}
