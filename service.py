"""The prediction service: POST /predict answers rows with the champion, or with the model that `--arg model=` names."""

import gc
import logging
import os
from pathlib import Path

import bentoml
from bentoml.images import Image
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json

from modeler import QUIET, ModelerError
from modeler.inside import (
    bind_workers,
    forward_hangup,
    make_app,
    refuse_late_connections,
    service_class,
    stand_in_for_uv,
    use_arguments,
)
from modeler.service.access import Access, read_keys, read_origins
from modeler.service.bento import PinnedModel, describe_bento, read_bento_tag
from modeler.service.body import RequestError
from modeler.service.front import Front
from modeler.service.prediction_log import PredictionLog
from modeler.service.telemetry import FOLDER, Metrics, share_metrics


class Arguments(BaseModel, extra="forbid"):
    """What `bentoml serve --arg NAME=VALUE` sets."""

    model: str = Field(
        "breast_cancer",
        pattern=r"^[a-z0-9_.-]+(:[a-z0-9_.-]+)?$",
        description="NAME or NAME:VERSION of the model to serve",
    )
    max_rows: int = Field(10_000, ge=1, description="rows a request may have")
    max_body: int = Field(8 * 2**20, ge=1, description="bytes a request's body may have")
    workers: int = Field(1, ge=1, description="processes that answer")
    grace: int = Field(10, ge=1, description="seconds after SIGTERM in which requests in flight are answered")
    log: str = Field("off", min_length=1, description="the folder of the prediction log")
    log_share: float = Field(1.0, gt=0, le=1, description="the share of requests that are logged")
    log_days: int = Field(30, ge=1, description="days after which a file of the prediction log is removed")
    keys: str = Field("off", min_length=1, description="the key file: who may ask")
    origins: str = Field("off", min_length=1, description="web pages that may ask: their origins, with commas")
    rate: int = Field(0, ge=0, le=1_000_000, description="requests a second of each key, or address; 0: no limit")
    base_image: str = Field("python:3.11-slim", description="the image that `bentoml build` builds on; pin a digest")


log = logging.getLogger("bentoml.prediction")
arguments, pinned = use_arguments(Arguments), read_bento_tag(Path(__file__))
tag = pinned or arguments.model
log_folder, key_file = (
    None if given == "off" else Path(given).expanduser() for given in (arguments.log, arguments.keys)
)
for name, path in (("log", log_folder), ("keys", key_file)):
    if pinned and path and not path.is_absolute():
        raise bentoml.exceptions.InvalidArgument(
            f"--arg {name}={path}: of a bento, give the whole path, such as --arg {name}=/{name}"
        )
try:
    origins = [] if arguments.origins == "off" else read_origins(arguments.origins)
    if key_file:
        read_keys(key_file)  # also in BentoML's parent process, which then does not start
except ModelerError as error:
    raise bentoml.exceptions.InvalidArgument(str(error)) from None


class FrontedService(service_class()):
    """A BentoML service whose requests go through our front first."""

    def to_asgi(self, is_main: bool = True):
        metrics = Metrics(self.name, self.bento.tag.version if self.bento else "not available")
        rows_log = None
        if log_folder:
            folder, limits = log_folder / tag.partition(":")[0], (arguments.log_share, arguments.log_days)
            rows_log = PredictionLog(folder, *limits, metrics.count_lines)
        access = Access(key_file, arguments.rate, origins, os.environ.get(FOLDER))
        limits = arguments.max_body, arguments.grace
        return Front(make_app(self), bentoml.get_current_service, metrics, *limits, rows_log, access)


@bentoml.service(
    name=tag.partition(":")[0],
    image=Image(base_image=arguments.base_image, distro="").run(stand_in_for_uv()),  # without uv, compilers and git
    **describe_bento(tag),
    envs=[{"name": name, "value": value} for name, value in QUIET.items()],
    service_class=FrontedService,
    workers=arguments.workers,
    metrics={"enabled": False},  # the front counts, under the same names
    logging={"access": {"enabled": False}},  # the front logs
)
class Prediction:
    """Answers rows of the data a model was trained on."""

    model = PinnedModel(tag)

    def __init__(self):
        self.predictor, self.fault = None, None
        self.load()
        logging.getLogger("uvicorn.access").propagate = False  # else uvicorn formats a line a request that nobody sees
        gc.collect()
        gc.freeze()  # what was loaded stays, so collections skip it

    def load(self) -> None:
        """Load the model that the tag names now; if that cannot answer, the former one goes on."""
        from modeler.service.predictor import load_predictor  # late: BentoML's parent process needs no numpy

        try:
            former, self.predictor = self.predictor, load_predictor(tag, arguments.max_rows)
            if former and former.tag == self.predictor.tag:
                self.predictor.since = former.since
            log.info("%s answers", self.predictor.tag)
        except ModelerError as error:
            self.fault = str(error)
            log.error("%s", f"{self.fault}; {self.predictor.tag} goes on" if self.predictor else self.fault)

    @bentoml.on_deployment
    def prepare() -> None:
        """Make room for the metrics of all workers, bind them to this process, and pass SIGHUP on, to load the champion anew."""
        share_metrics()
        bind_workers()
        forward_hangup()
        refuse_late_connections()

    @bentoml.api(route="/predict")
    def predict(self, rows: list[dict], /) -> dict:
        """Answer records. Over HTTP the front answers instead; it takes the other forms of a body too."""
        if self.predictor is None:
            raise bentoml.exceptions.ServiceUnavailable(self.fault)
        try:
            return from_json(self.predictor.answer(to_json(rows)).body)
        except RequestError as error:
            raise bentoml.exceptions.InvalidArgument(to_json(error.answer).decode()) from None
