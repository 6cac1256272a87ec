"""Progress on standard error: a bar for every notebook on a terminal, now and then a plain line elsewhere."""

import sys
import time

SECONDS = 5  # between two plain lines of one notebook


class Progress:
    """Callable with a notebook's name, the cells done and the cells there are."""

    def __init__(self):
        self._stream = sys.stderr
        self._bars, self._shown = {}, {}

    def say(self, text: str) -> None:
        """Announce a step."""
        print(text, file=self._stream, flush=True)

    def __call__(self, name: str, done: int, cells: int) -> None:
        if self._stream.isatty():
            from tqdm import tqdm

            layout = "{desc:<18} {bar:30} cell {n_fmt} of {total_fmt} [{elapsed}]"
            if name not in self._bars:
                self._bars[name] = tqdm(total=cells, desc=name, file=self._stream, bar_format=layout, leave=False)
            self._bars[name].n = done
            self._bars[name].refresh()
        elif time.monotonic() - self._shown.setdefault(name, time.monotonic()) >= SECONDS:
            self._shown[name] = time.monotonic()
            print(f"  {name}: {done} of {cells} cells", file=self._stream, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        """Take the bars off the screen."""
        while self._bars:
            self._bars.popitem()[1].close()
        self._shown.clear()
