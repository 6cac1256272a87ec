"""The package for workers that have none: shipped as a zip archive, unpacked where they and their kernels import from."""

import hashlib
import io
import os
import sys
import uuid
import zipfile
from pathlib import Path


def pack_package() -> bytes:
    """The package as a zip archive, the same bytes for the same modules."""
    root, sink = Path(__file__).parents[1], io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.mplstyle")]):
            archive.writestr(zipfile.ZipInfo(path.relative_to(root.parent).as_posix()), path.read_bytes())
    return sink.getvalue()


def make_installer(package: bytes):
    """What a plugin calls on a worker so that it, and the kernels it starts, import the package of these bytes; none changes nothing.

    It is made here because cloudpickle ships such a function as code: the worker need not have this package.
    """
    version = hashlib.sha256(package).hexdigest()[:16]

    def install(worker):
        if not package or getattr(sys.modules.get("modeler"), "shipped", None) == version:
            return
        for name in [name for name in sys.modules if name.partition(".")[0] == "modeler"]:
            del sys.modules[name]
        folder = Path(worker.local_directory) / f"modeler-{version}"
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(folder)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        import modeler

        modeler.shipped = version

    return install


def make_task(name: str, made: str):
    """What a client submits so that the plugin of this name does some work; `made` names an attribute that its `setup` sets."""

    def work(*given):
        from distributed import get_worker

        worker = get_worker()
        plugin = worker.plugins[name]
        if not hasattr(plugin, made):  # it failed when the worker joined, and is to say why
            plugin.setup(worker)
        return plugin.work(*given)

    return work


def make_plugin(name: str, package: bytes):
    """A plugin of this name that gives workers the package, also those that join later.

    The class is made here because cloudpickle ships such a one as code.
    """
    from distributed import WorkerPlugin

    install = make_installer(package)

    class Shipping(WorkerPlugin):
        def setup(self, worker):
            install(worker)

    plugin = Shipping()
    plugin.name = f"{name}-{uuid.uuid4().hex}"
    return plugin
