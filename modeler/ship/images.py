"""Images of a name that nobody needs: those whose tag another build took, and those of bentos that are to go."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from modeler.ship.build import answers_engine, find_error, run_docker

LABELS = {"model", "run", "data", "commit"}  # what `bentoml containerize` and the pipeline give an image of ours


@dataclass(frozen=True)
class Image:
    """An image, by its tag or, if it has none, by its ID; `size` in bytes counts layers that others share, too."""

    reference: str
    size: int


def list_images(name: str, bentos: Collection[str]) -> list[Image]:
    """The untagged images of a name's versions, and those with the tag of one of `bentos`; none where no engine answers.

    What a container was started from is left out, even if the container stopped.
    """
    if not answers_engine():
        return []
    found = _inspect("image", "--filter", "label=model")
    used = {container["Image"] for container in _inspect("container", "--all")}
    images = []
    for image in found:
        labels, tags = image["Config"].get("Labels") or {}, image.get("RepoTags") or []
        if LABELS <= labels.keys() and labels["model"].startswith(f"{name}:") and image["Id"] not in used:
            references = [tag for tag in tags if tag in bentos] if tags else [image["Id"]]
            images += [Image(reference, image["Size"]) for reference in references]
    return images


def delete_image(image: Image) -> str | None:
    """Delete an image; what the engine says if it does not."""
    done = run_docker("image", "rm", image.reference)
    return find_error(done.stderr) if done.returncode else None


def _inspect(kind: str, *filters: str) -> list[dict]:
    """What the engine knows of all images or containers; one that goes meanwhile is left out."""
    found = run_docker(kind, "ls", "--quiet", "--no-trunc", *filters).stdout.split()
    return json.loads(run_docker(kind, "inspect", *dict.fromkeys(found)).stdout) if found else []
