"""Reading a model of BentoML's store: it is found by its tag, checked against its hash, and searched for damage."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from modeler import ModelerError, did_you_mean
from modeler.model.contract import LARGEST, open_own, parse_json, read_own

GRAPH, CONTRACT = "model.onnx", "contract.json"
REFERENCE = "reference.json"  # models of before have none


@dataclass(frozen=True)
class StoredModel:
    """A model of the store: its tag and the folder with its files."""

    tag: str
    path: Path

    @property
    def name(self) -> str:
        return self.tag.partition(":")[0]

    @property
    def version(self) -> str:
        return self.tag.partition(":")[2]

    @property
    def mend(self) -> str:
        """What to do about a damaged model."""
        return f"remove it with `bentoml models delete {self.tag}` and retrain"

    @property
    def labels(self) -> dict[str, str]:
        """What BentoML notes about it, such as its run; empty if that cannot be read."""
        try:
            return read_note(self.path)["labels"]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            return {}

    def read(self, name: str) -> dict:
        """Read one of the model's JSON files."""
        try:
            return parse_json(read_own(self.path / name, LARGEST + 1))
        except (OSError, ValueError):
            raise ModelerError(f"{self.tag} has no readable {name}; {self.mend}") from None

    def read_reference(self) -> dict | None:
        """What training looked like, as the gate described it; None for a model of before."""
        return self.read(REFERENCE) if (self.path / REFERENCE).exists() else None


def store_home() -> Path:
    """BentoML's home: BENTOML_HOME, or ~/bentoml."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME") or "~/bentoml")).expanduser()


def slugify(text: str) -> str:
    """Turn a text into a name for the model store: a-z, 0-9 and _, at most 40 characters, perhaps none."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_")


def read_note(folder: Path) -> dict:
    """What BentoML notes of the model in a folder. It fails in many ways: the file may be missing, damaged or forged."""
    return yaml.safe_load(read_own(folder / "model.yaml"))


def content_version(folder: Path) -> str:
    """The version of a model: the first 16 hex digits of the SHA-256 over the graph's bytes and then the contract's."""
    digest = hashlib.sha256()
    for name in (GRAPH, CONTRACT):
        with open_own(folder / name) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]


def find_champion(name: str) -> StoredModel | None:
    """The model that `latest` names, or None if nothing of that name is stored."""
    folder = store_home() / "models" / name
    try:
        version = (folder / "latest").read_text().strip()
    except FileNotFoundError:
        return None
    return StoredModel(f"{name}:{version}", folder / version) if (folder / version).is_dir() else None


def find_model(tag: str) -> StoredModel:
    """Find a model by NAME, NAME:latest or NAME:VERSION, or raise a ModelerError that says how to make one."""
    if model := _look_up(tag):
        return model
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml

    try:
        model = bentoml.models.get(tag)
    except (bentoml.exceptions.BentoMLException, ValueError, OSError):
        name = tag.partition(":")[0]
        options = "" if name == "breast_cancer" else f" --data FILE --target COLUMN --name {name}"
        raise ModelerError(
            f"there is no model {tag} in the store {store_home()}; `bentoml models list` shows what there is, "
            f"and `python pipeline.py{options}` makes one"
        ) from None
    except Exception:  # a model.yaml that somebody damaged or forged fails in many ways
        raise ModelerError(f"{tag} has a model.yaml that cannot be read; {StoredModel(tag, Path()).mend}") from None
    return StoredModel(str(model.tag), Path(model.path))


def _look_up(tag: str) -> StoredModel | None:
    """A model where BentoML keeps it, as that is imported for a second; None for whatever it would not take or find there."""
    if not re.fullmatch(r"\w[\w.-]*(:\w[\w.-]*)?", tag, re.ASCII):
        return None
    name, _, version = tag.partition(":")
    if version in ("", "latest"):
        model = find_champion(name)
    else:
        model = StoredModel(tag, store_home() / "models" / name / version)
    try:
        told = read_note(model.path)
        return model if (told["name"], told["version"]) == (name, model.version) else None
    except Exception:  # there is none, or BentoML is to say what is wrong with it
        return None


def load_model(tag: str) -> StoredModel:
    """Find a model and check its content; either may raise a ModelerError."""
    model = find_model(tag)
    check_content(model)
    return model


def check_content(model: StoredModel) -> None:
    """Raise a ModelerError unless graph and contract are what the model's version was made from."""
    try:
        version = content_version(model.path)
    except OSError as error:
        lost = f"lacks {Path(error.filename).name} and is damaged: {error.strerror}"
        raise ModelerError(f"{model.tag} {lost}; {model.mend}") from None
    if version != model.version:
        raise ModelerError(f"{model.tag} was changed after it was stored: its content is {version}; {model.mend}")


def list_versions(name: str) -> list[str]:
    """The stored versions of a name."""
    return _list_folders(store_home() / "models" / name)


def find_damage(model: StoredModel) -> str | None:
    """What is wrong with a stored model, as far as its hash and a look at its files tell, or None."""
    try:
        check_content(model)
        for name in ("metrics.json", "golden.json"):  # without them a model cannot be compared or proven
            model.read(name)
        if read_note(model.path)["version"] != model.version:
            return f"{model.tag} has the model.yaml of another version"
    except ModelerError as error:
        return str(error).partition(";")[0]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return f"{model.tag} has no readable model.yaml"
    return None


def unknown_name(name: str) -> str:
    """The sentence about a name without stored models."""
    near = did_you_mean(name, _list_folders(store_home() / "models"))
    return f"there is no model {name} in the store {store_home()}{near}; `bentoml models list` shows what there is"


def _list_folders(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
