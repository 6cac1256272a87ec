"""What relies on the inside of a library, all but `service/connections.py`: why there is no public way, and the versions it was tried with.

`tests/test_inside.py` names the library and the piece that a new version breaks. Libraries are imported late, since each
process needs a part of this alone.
"""

import base64
import json
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from modeler.linux import make_bond_to_parent

TRIED = {
    "bentoml": "1.4.39",
    "kantoku": "0.18.3",
    "uvicorn": "0.54.0",
    "nbval": "0.11.0",
    "jsonschema": "4.26.0",
    "scikit-learn": "1.9.1",
    "skl2onnx": "1.20.0",
}  # kantoku is what circus is installed by
UV = Path(__file__).parent / "service" / "uv.sh"
STEEPEST = 20  # rise of a calibrated probability by its score: a score off by 3e-7 leaves it the same to 1e-5
ARGUMENTS = "PREDICTION_ARGUMENTS"  # environment variable: what the command line set, as JSON
LAST_ACCEPT_SECONDS = 0.5  # after SIGTERM; uvicorn looks every 0.1 s whether it was told to stop


def service_class() -> type:
    """BentoML's class of services. `bentoml.service(service_class=…)` takes one of ours, but the base has no public name."""
    from _bentoml_sdk import Service

    return Service


def make_app(service):
    """The part of BentoML's application that the front asks: the service's life, liveness, the schema and Swagger UI.

    `Service.to_asgi` makes all of it or none, and takes 17 MiB and 0.25 s a worker: it imports aiohttp and pyparsing for a
    proxy to services with a command of their own, circus, and OpenTelemetry around requests that the front answers. What
    keeps the service's instance, and where Swagger UI lies, has no public name. BentoML's hooks `on_startup` and
    `on_shutdown`, its mounts and middlewares have no place here; `on_deployment` runs in the parent process, as ever.
    """
    import bentoml
    from _bentoml_sdk.service import set_current_service
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    @asynccontextmanager
    async def live(app):
        set_current_service(service())
        yield
        set_current_service(None)

    async def tell_liveness(request):
        return PlainTextResponse("\n")

    async def show_schema(request):
        return JSONResponse(service.schema())

    static = Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"
    routes = [
        Route("/livez", tell_liveness),
        Route("/healthz", tell_liveness),
        Route("/schema.json", show_schema),
        Mount("/static_content", StaticFiles(directory=static)),
    ]
    return Starlette(routes=routes, lifespan=live)


def use_arguments(model: type):
    """BentoML's arguments as a `model` of pydantic, in a bento and its image too.

    When BentoML loads a bento, it puts the arguments that the bento was built with in place of all others, so that `bentoml serve
    BENTO --arg NAME=VALUE` changes nothing. So they are taken from the command line; workers get them by the environment.
    """
    import bentoml
    from bentoml._internal.utils.args import set_arguments

    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--arg", action="append", default=[])
    if pairs := parser.parse_known_args()[0].arg:
        os.environ[ARGUMENTS] = json.dumps(dict(pair.split("=", 1) for pair in pairs))
    set_arguments(vars(bentoml.use_arguments()) | json.loads(os.environ.get(ARGUMENTS, "{}")))
    return bentoml.use_arguments(model)


@contextmanager
def create_model(tag: str, labels: dict[str, str], metadata: dict, store: Path):
    """Yield the folder of a new model, which BentoML puts into the store at the end of the with block.

    `bentoml.models.create` takes a store, which lets us finish the model outside the one that others read, but neither that
    parameter nor the store's class is public.
    """
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml
    from bentoml._internal.models.model import ModelStore

    with bentoml.models.create(tag, labels=labels, metadata=metadata, _model_store=ModelStore(store)) as model:
        yield Path(model.path)


def stand_in_for_uv() -> str:
    """The shell command that puts `uv.sh` where BentoML's Dockerfile installs uv.

    The Dockerfile has no option for another installer; `dockerfile_template`, which could replace it, fails since 1.4.36. A
    read-only file system has no room for the folders that BentoML makes at every start, so they are made here.
    """
    script, place = base64.b64encode(UV.read_bytes()).decode(), "/usr/local/bin/uv"
    folders = "mkdir -p /home/bentoml/bentos /home/bentoml/models /home/bentoml/envs /home/bentoml/tmp"
    return f"echo {script} | base64 -d > {place} && chmod +x {place} && {folders}"


def refuse_late_connections() -> None:
    """Have BentoML's parent process refuse connections as soon as it was told to stop and the workers take no more.

    By itself, it holds the listening socket until the last worker has ended: whoever connects in between waits in vain.
    circus has hooks of its watchers for that, but BentoML makes the watchers and passes none on.
    """
    from circus.sighandler import SysHandler

    former = SysHandler.quit

    def quit_and_refuse(handler):
        former(handler)
        controller = handler.controller

        def refuse():
            for listening in controller.arbiter.sockets.values():
                listening.close()

        controller.loop.add_callback_from_signal(controller.loop.call_later, LAST_ACCEPT_SECONDS, refuse)

    SysHandler.quit = quit_and_refuse


def forward_hangup() -> None:
    """Have BentoML's parent process pass SIGHUP on to its workers, which `service/signals.py` prepares.

    By itself, circus starts other workers and stops these, which costs requests: those that arrive on an open connection, or
    on one just accepted, in the moment the connection is closed. Its list of signals is no setting. SIGHUP would end a
    worker that has not come far enough to catch it: workers begin with it blocked, and the system keeps it for them. circus
    starts them by `preexec_fn`, so that Python's hooks of fork are called.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # not the server's own process, as in a test
    import psutil
    from circus.sighandler import SysHandler

    SysHandler.SIGNALS = [caught for caught in SysHandler.SIGNALS if caught != signal.SIGHUP]

    def forward(number, frame):
        for worker in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                worker.send_signal(signal.SIGHUP)

    signal.signal(signal.SIGHUP, forward)
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP}))


def bind_workers() -> None:
    """Have BentoML's workers sent SIGTERM when their parent is killed, from their first moment on.

    circus has no setting for that; it starts them by `preexec_fn`, so that Python's hooks of fork are called.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # not the server's own process, as in a test
    bind_to_parent = make_bond_to_parent(signal.SIGTERM)

    def prepare():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until its program starts, the child has circus' handler
        bind_to_parent()

    os.register_at_fork(after_in_child=prepare)


def limit_connections(limited: type, refuse: Callable[[int, str], bytes]) -> None:
    """Have uvicorn make its connections of a class of ours, `service/connections.py`, in front of its own.

    It has an option for the class, but BentoML passes none on, and starts uvicorn after it has made the application.
    """
    from uvicorn.protocols.http import auto

    own = getattr(auto, "HttpToolsProtocol", None) or auto.H11Protocol
    auto.AutoHTTPProtocol = type("Connection", (limited, own), {"refuse": staticmethod(refuse)})


def use_kernel_manager(localize: Callable[[type], type]) -> None:
    """Have nbval start its kernels by another class; it names its own in a module and has no option."""
    import nbval.kernel

    nbval.kernel.KernelManager = localize(nbval.kernel.KernelManager)


def leave_out_grammar() -> None:
    """Have jsonschema do without `rfc3987_syntax`, which builds a grammar of every URI when it is imported, for a second.

    nbformat imports jsonschema in each process that touches a notebook, and checks no URI. jsonschema has no option.
    """
    sys.modules.setdefault("rfc3987_syntax", None)


def round_thresholds(model) -> None:
    """Have scikit-learn's histogram boosting, also inside other models, split at numbers that a float32 can hold.

    It splits midway between two values, in float64; skl2onnx rounds that to the nearest float32, which may be the value of
    another row, as 38.9 between 38.8 and 39.0. Rounded down, every float32 goes the same way as before. The trees of
    other models are rounded so by skl2onnx; those of this one have no public name.
    """
    for trees in getattr(model, "_predictors", []):
        for tree in trees:
            tree.nodes["num_threshold"] = round_down(tree.nodes["num_threshold"])
    for name in ("estimators_", "regressor_", "steps", "calibrated_classifiers_", "estimator"):
        parts = getattr(model, name, [])
        for part in parts if isinstance(parts, list) else [parts]:
            round_thresholds(part[1] if isinstance(part, tuple) else part)


def round_down(exact):
    """The greatest float32 at or below each of an array of float64; -inf below all of them."""
    import numpy as np

    with np.errstate(over="ignore"):  # 1e300 is beyond every float32, and so is what it is rounded down to
        nearest = exact.astype(np.float32)
    return np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def flatten_steps(calibrated) -> None:
    """Have no probability of a CalibratedClassifierCV, fitted by isotonic regression, rise `STEEPEST` times faster than its score.

    Isotonic regression jumps between two scores that may lie closer than a float32 tells apart, so graph and estimator
    could answer from both ends of a jump. A jump becomes a slope midway between the least curve above it and the greatest
    below it that rise no faster; elsewhere the curve stays. scikit-learn keeps its maps in a class without a public name.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    for fitted in calibrated.calibrated_classifiers_:
        for place, curve in enumerate(fitted.calibrators):
            if isinstance(curve, IsotonicRegression):
                x, y = curve.X_thresholds_, curve.y_thresholds_
                rise = STEEPEST * np.maximum(x[:, None] - x, 0)
                middle = (np.min(y + rise, axis=1) + np.max(y - rise.T, axis=1)) / 2
                fitted.calibrators[place] = IsotonicRegression(out_of_bounds="clip").fit(x, middle)


def interpolate_isotonic(draw: Callable, steps: Sequence) -> None:
    """Have skl2onnx convert isotonic regression of a CalibratedClassifierCV as scikit-learn answers it: straight between its points.

    By itself it answers the nearest point, up to 0.15 off in a probability. Its converter has no option. `steps` are operators
    with the names of the constants that `draw` makes of the points.
    """
    from onnx import TensorProto
    from skl2onnx.operator_converters import calibrated_classifier_cv as converter

    def interpolate(scope, container, model, score, k, dtype, proto_type):
        constants, names = draw(model.calibrators[k].X_thresholds_, model.calibrators[k].y_thresholds_), {}
        for name, constant in constants.items():
            names[name] = scope.get_unique_variable_name(f"isotonic_{name}")
            container.add_initializer(names[name], TensorProto.FLOAT, constant.shape, constant.ravel())
        answer = scope.get_unique_variable_name("isotonic")
        converter.apply_reshape(scope, score, answer, container, desired_shape=(-1, 1))
        for kind, *others in steps:
            inputs, answer = [answer, *(names[other] for other in others)], scope.get_unique_variable_name("isotonic")
            container.add_node(kind, inputs, answer, name=scope.get_unique_operator_name(kind), op_version=13)
        return answer

    converter._transform_isotonic = interpolate
