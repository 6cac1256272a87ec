"""Replay the golden rows of a stored model, in the store, in a bento, in an image or at a running service."""

import click

from modeler import UsageError
from modeler.commands.options import FAILED, OK, print_result


@click.command(
    help=__doc__,
    short_help="replay the golden rows of a stored model, there, in a bento, in an image or at a service",
    epilog="Example: python pipeline.py verify --url http://localhost:3000",
)
@click.argument("model", metavar="MODEL_TAG", required=False)
@click.option("--bento", metavar="TAG", help="in a bento of the local store, run for it")
@click.option("--image", metavar="TAG", help="in an image of the local Docker engine, run for it")
@click.option("--url", metavar="URL", help="at a running service, in every form that a request may have")
def verify(model: str | None, bento: str | None, image: str | None, url: str | None) -> int:
    if sum(map(bool, (model, bento, image, url))) != 1:
        raise UsageError("verify takes one of MODEL_TAG, --bento TAG, --image TAG and --url URL")
    from modeler.model.golden import replay_golden
    from modeler.model.graph import Graph
    from modeler.model.stored import CONTRACT, GRAPH, load_model
    from modeler.ship.remote import replay_at_service
    from modeler.ship.run import run_image, serve_bento

    if url:
        stored, differences = replay_at_service(url)
        place = f" at {url}"
    elif model:
        stored, place = load_model(model), ""
        contract = stored.read(CONTRACT)
        answer = Graph(stored.path / GRAPH, contract).answer
        differences = replay_golden(stored.read("golden.json"), contract, answer)
    else:
        with serve_bento(bento) if bento else run_image(image) as address:
            stored, differences = replay_at_service(address)
        place = f" in the bento {bento}" if bento else f" in the image {image}"
    if differences:
        print_result("\n  ".join([f"{stored.tag}{place} differs from its golden rows:", *differences]))
        return FAILED
    rows, forms = len(stored.read("golden.json")["rows"]), ", in every form of a request" if place else ""
    told = f"answers its {rows} golden rows as the estimator did, singly and as a batch{forms}"
    print_result(f"{stored.tag}{place} {told}")
    return OK
