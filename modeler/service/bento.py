"""The bento: which model it holds, and what it says about that model."""

from pathlib import Path

import yaml
from bentoml.models import BentoModel

from modeler import ModelerError
from modeler.model.stored import find_model


class PinnedModel(BentoModel):
    """The model that `bentoml build` puts into a bento; without one, the build ends with our own sentence."""

    def to_info(self, alias: str | None = None):
        _require(self.tag)
        return super().to_info(alias)

    def resolve(self, *arguments, **settings):
        _require(self.tag)
        return super().resolve(*arguments, **settings)


def read_bento_tag(service: Path) -> str | None:
    """The tag of the model in the bento that a service.py belongs to, or None if it belongs to none.

    A bento answers with the version it was built with, even if the store holds a newer one.
    """
    description = service.resolve().parents[1] / "bento.yaml"
    if service.resolve().parent.name != "src" or not description.is_file():
        return None
    return yaml.safe_load(description.read_text("utf-8"))["services"][0]["models"][0]["tag"]


def describe_bento(tag: str) -> dict:
    """A bento's `description` and `labels`: model, run, data and commit. Nothing, if the model cannot be read."""
    try:
        model = find_model(tag)
        provenance, contract = model.read("provenance.json"), model.read("contract.json")
        run = model.labels["run"]
    except (ModelerError, OSError, KeyError, TypeError):
        return {}
    git = provenance["git"] or {"commit": "none", "dirty": False}
    commit = git["commit"] + ("-dirty" if git["dirty"] else "")
    labels = {"model": model.tag, "run": run, "data": provenance["data"]["sha256"], "commit": commit}
    about = f"Predicts {contract['target']['name']} of {contract['name']}.\n\n"
    return {"labels": labels, "description": about + "".join(f"- {name}: {value}\n" for name, value in labels.items())}


def _require(tag) -> None:
    try:
        find_model(str(tag))
    except ModelerError as error:
        raise SystemExit(str(error)) from None
