"""BentoML's model store, written so that no reader ever sees half a model: staged, renamed in, `latest` moved last."""

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modeler import ModelerError
from modeler.contract import read_json

_MEND = "remove it with `bentoml models delete {tag}` and retrain"
GRAPH, CONTRACT = "model.onnx", "contract.json"


@dataclass(frozen=True)
class StoredModel:
    """A model of the store: its tag and the folder with its files."""

    tag: str
    path: Path

    @property
    def version(self) -> str:
        return self.tag.partition(":")[2]

    def read(self, name: str) -> dict:
        """Read one of the model's JSON files."""
        try:
            return read_json(self.path / name)
        except (OSError, ValueError):
            raise ModelerError(f"{self.tag} has no readable {name}; {_MEND.format(tag=self.tag)}") from None


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
    _check_content(model)
    return model


def check_writable() -> None:
    """Raise a ModelerError unless a model could be staged in the store now."""
    with _explain_errors(), _stage() as staging:
        (staging / "probe").write_bytes(b"\0" * 4096)


def publish_model(run: Path, tag: str, labels: dict[str, str], metadata: dict) -> bool:
    """Put a run's files into the store under their tag and make it the champion; a version that is there stays as it is.

    The files are staged on the store's own filesystem; under an exclusive lock the finished folder is renamed in, and
    then the file `latest` is replaced. Readers need no lock: each step is one atomic system call.

    Returns
    -------
    bool
        Whether the champion is another one now.
    """
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml
    from bentoml._internal.models.model import ModelStore  # create() takes a store, but the class has no public name

    name, _, version = tag.partition(":")
    folder = store_home() / "models" / name
    with _explain_errors(), _stage() as staging:
        if not (folder / version).exists():
            with bentoml.models.create(
                tag, labels=labels, metadata=metadata, _model_store=ModelStore(staging)
            ) as model:
                for path in run.iterdir():
                    if path.is_file():
                        shutil.copy(path, model.path)
            _make_readable(staging)
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not (folder / version).exists():
                os.rename(staging / name / version, folder / version)
            _check_content(StoredModel(tag, folder / version))
            if (champion := find_champion(name)) and champion.version == version:
                return False
            (staging / "latest").write_text(version)
            os.replace(staging / "latest", folder / "latest")
            return True


def _check_content(model: StoredModel) -> None:
    try:
        version = content_version(model.path)
    except OSError as error:
        raise ModelerError(f"{model.tag} lacks {Path(error.filename).name}; {_MEND.format(tag=model.tag)}") from None
    if version != model.version:
        raise ModelerError(
            f"{model.tag} was changed after it was stored: its content is {version}; {_MEND.format(tag=model.tag)}"
        )


@contextmanager
def _stage():
    """A fresh folder on the store's filesystem, removed afterwards."""
    staging = store_home() / "staging" / uuid.uuid4().hex
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _lock(folder: Path):
    with open(folder.parent / f".{folder.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _explain_errors():
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, shutil.Error):  # copytree's list of (source, target, message)
            reason = re.sub(r"^\[Errno \d+\] |: '.*", "", error.args[0][0][2])
        raise ModelerError(
            f"the model store {store_home()} cannot be written: {reason}; make room or permit writing there, "
            "or set BENTOML_HOME to another folder. No model was changed"
        ) from None


def _make_readable(folder: Path) -> None:
    """Let every user read the files, as a container under another uid must; BentoML makes its folders private."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
