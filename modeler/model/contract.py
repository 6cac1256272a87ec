"""Reading the contract: what callers and training agree on about the data. `data.derive` makes it."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

from modeler import ModelerError

LARGEST = 1 << 26  # bytes of a JSON file


def class_key(label) -> str:
    """The name of a class in JSON objects: its text, or the JSON form of a number or boolean."""
    return label if isinstance(label, str) else json.dumps(label)


def used_features(contract: dict) -> list[dict]:
    """The features that go into the model: numbers and booleans, then dates, then categories, each in the data's order."""
    used = [feature for feature in contract["features"] if feature["used"]]
    return sorted(used, key=lambda feature: (feature["type"] == "category", feature["type"] == "date"))


def read_split(contract: dict) -> dict:
    """How the rows were held out: `by`, `time`, `boundary` and `share`. Models of before have `holdout` instead."""
    if "split" in contract:
        return contract["split"]
    before = contract["holdout"]
    return {"by": before["split_by"], "time": None, "boundary": None, "share": before["share"]}


def read_contract(path: Path) -> dict:
    """Read contract.json; if it is missing, the error names the notebook that writes it."""
    try:
        return read_json(path)
    except FileNotFoundError:
        raise ModelerError(
            f"there is no {path}; run eda.ipynb first, with the same parameters: it writes the contract"
        ) from None
    except ValueError as error:
        raise ModelerError(f"{path} is not a contract ({error}); run eda.ipynb again") from None


def read_json(path: Path):
    """Read a JSON file.

    A ValueError: it is none, has NaN or Infinity, which JSON does not have, more than `LARGEST` bytes, or is nested too deeply.
    """
    with open(path, "rb") as file:
        return parse_json(file.read(LARGEST + 1))


def parse_json(content: bytes):
    """Parse the content of a JSON file, like `read_json`."""
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST / 1e6:.0f} MB")
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def open_own(path: Path) -> BinaryIO:
    """Open a file of a folder that a stranger may have made; an OSError if it is a link, which may lead out, or no file."""
    special = os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would be waited for
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | special))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def read_own(path: Path, most: int = -1) -> bytes:
    """Read at most so many bytes of such a file, or all."""
    with open_own(path) as file:
        return file.read(most)


def write_json(path: Path, content) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    os.replace(draft, path)


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not JSON")
