"""A model of BentoML's store as it is read: found by its tag, held to its hash, looked over for damage."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from modeler import ModelerError, did_you_mean
from modeler.model.contract import read_json

GRAPH, CONTRACT = "model.onnx", "contract.json"
RECORDS = ["metrics.json", "golden.json"]  # without which a model can neither be compared with nor be proven


@dataclass(frozen=True)
class StoredModel:
    """A model of the store: its tag and the folder with its files."""

    tag: str
    path: Path

    @property
    def version(self) -> str:
        return self.tag.partition(":")[2]

    @property
    def mend(self) -> str:
        """What to do about it where it is damaged."""
        return f"remove it with `bentoml models delete {self.tag}` and retrain"

    @property
    def labels(self) -> dict[str, str]:
        """What BentoML notes beside it, such as its run; empty where that cannot be read."""
        try:
            return yaml.safe_load((self.path / "model.yaml").read_text("utf-8"))["labels"]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            return {}

    def read(self, name: str) -> dict:
        """Read one of the model's JSON files."""
        try:
            return read_json(self.path / name)
        except (OSError, ValueError):
            raise ModelerError(f"{self.tag} has no readable {name}; {self.mend}") from None


def store_home() -> Path:
    """BentoML's home: BENTOML_HOME, or ~/bentoml."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME") or "~/bentoml")).expanduser()


def content_version(folder: Path) -> str:
    """The version of a model: the first 16 hex digits of the SHA-256 over the graph's bytes and then the contract's."""
    digest = hashlib.sha256()
    for name in (GRAPH, CONTRACT):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def find_champion(name: str) -> StoredModel | None:
    """The model that `latest` names, or None where nothing of that name is stored."""
    folder = store_home() / "models" / name
    try:
        version = (folder / "latest").read_text().strip()
    except FileNotFoundError:
        return None
    return StoredModel(f"{name}:{version}", folder / version) if (folder / version).is_dir() else None


def find_model(tag: str) -> StoredModel:
    """Find a model by NAME, NAME:latest or NAME:VERSION, or raise a ModelerError that says how to make one."""
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
    return StoredModel(str(model.tag), Path(model.path))


def load_model(tag: str) -> StoredModel:
    """Find a model, and raise a ModelerError also where graph or contract are not what its version was made from."""
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
    """The versions that are stored of a name."""
    folder = store_home() / "models" / name
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def find_damage(model: StoredModel) -> str | None:
    """What is wrong with a stored model, as far as its hash and a look at its files tell; None for a whole one."""
    try:
        check_content(model)
        for name in RECORDS:
            model.read(name)
        if yaml.safe_load((model.path / "model.yaml").read_text("utf-8"))["version"] != model.version:
            return f"{model.tag} has the model.yaml of another version"
    except ModelerError as error:
        return str(error).partition(";")[0]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return f"{model.tag} has no readable model.yaml"
    return None


def unknown_name(name: str) -> str:
    """The sentence about a name of which nothing is stored."""
    folder = store_home() / "models"
    known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return f"there is no model {name} in the store {store_home()}{did_you_mean(name, known)}; `bentoml models list` shows what there is"
