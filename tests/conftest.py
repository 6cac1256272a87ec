"""Real projects, runs, stores and services in temporary folders."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from modeler.data import raw_records, split_rows
from modeler.linux import IS_LINUX
from modeler.model.contract import read_json, write_json
from modeler.model.graph import Graph
from modeler.ship.run import find_free_port
from modeler.train import convert_pipeline, encode_table, score_answers

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
QUICK = ["-p", "estimator=logistic_regression"]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' own processes share the cores
UNDRAWN = {"MPLBACKEND": "agg"}  # plots are made and not drawn, where nobody looks at them
SECRET_NAME, SECRET = "DATABASE_PASSWORD", "correct-horse-battery-staple"


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that nobody waits for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_named(process: psutil.Process, word: str) -> bool:
    """Whether a word stands in a process' command line; not if it ended meanwhile."""
    try:
        return word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def read_page(name: str) -> str:
    """README.md or a page of docs/."""
    return (ROOT / name).read_text("utf-8")


def read_examples(name: str, language: str) -> list[str]:
    """The examples of a page that are fenced as code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read_page(name), re.M | re.S)


def read_whole(path: Path) -> bytes:
    """The content of a file, or of all files in a zip archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def default_signals() -> None:
    """In a child: a shell's background job ignores SIGINT, nohup SIGHUP, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Project:
    """A copy of the project's own files with a model store beside it, driven like a user drives it."""

    def __init__(self, parent: Path):
        self.folder, self.store = parent / "project", parent / "bentoml"
        self.settings = UNDRAWN  # more variables of the environment
        if self.folder.exists():
            return
        self.folder.mkdir(parents=True)
        for name in ("pipeline.py", "service.py", "notebooks"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.folder / name)
        shutil.rmtree(self.folder / "notebooks" / "out", ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"BENTOML_HOME": str(self.store), "BENTOML_DO_NOT_TRACK": "True"} | self.settings

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("*"))

    @property
    def stored(self) -> list[str]:
        """What the store holds, as BentoML itself lists it."""
        from bentoml._internal.models.model import ModelStore

        models = self.store / "models"
        return sorted(str(model.tag) for model in ModelStore(models).list()) if models.exists() else []

    def command(self, *words, **settings) -> subprocess.CompletedProcess:
        settings = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True} | settings
        return subprocess.run([sys.executable, *map(str, words)], **settings)

    def retrain(self, *options, **settings) -> subprocess.CompletedProcess:
        return self.command("pipeline.py", *options, **settings)

    def retrain_here(self, *options) -> subprocess.CompletedProcess:
        """A retrain whose cells all run in its own process, once and without kernels."""
        script = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import cells, pipeline\n"
        script += "pipeline.execute_twice = cells.execute_here\nsys.exit(pipeline.main(sys.argv[1:]))"
        return self.command("-c", script, *options)

    def interrupt(self, *words, sent: signal.Signals) -> tuple[int, str, list[psutil.Process]]:
        """Run pipeline.py and send it a signal once a kernel runs; its exit status, its errors, and its processes."""
        process = subprocess.Popen(
            [sys.executable, "pipeline.py", *words], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=default_signals,
        )  # fmt: skip
        family = []
        while not any(is_named(child, "ipykernel") for child in family):
            time.sleep(0.2)
            family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        _, told = process.communicate(timeout=60)
        return process.returncode, told, family

    def publish(self, run: Path, tag: str) -> None:
        """Make a run's files the champion, without a judgement."""
        script = "import sys; from pathlib import Path; from modeler.store.publish import publish_model as publish\n"
        script += "publish(Path(sys.argv[1]), sys.argv[2], {}, {})"
        done = self.command("-c", script, run, tag)
        assert done.returncode == 0, done.stderr

    def edit_cell(self, notebook: str, holding: str, new_source=None, tags=None) -> None:
        """Change the one cell of a notebook that holds a text."""
        path = self.folder / "notebooks" / notebook
        content = nbformat.read(path, 4)
        (cell,) = [cell for cell in content.cells if holding in cell.source and cell.cell_type == "code"]
        cell.source = cell.source if new_source is None else new_source(cell.source)
        cell.metadata.tags = cell.metadata.get("tags", []) + (tags or [])
        nbformat.write(content, path)

    def replace_cells(self, notebook: str, *sources: str) -> None:
        """Leave the cell of the parameters alone in a notebook, and put others below it, for what shows in any notebook."""
        path = self.folder / "notebooks" / notebook
        content = nbformat.read(path, 4)
        parameters = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
        content.cells = [*parameters, *map(nbformat.v4.new_code_cell, sources)]
        nbformat.write(content, path)


class Serving:
    """A real `bentoml serve` process of a project, stopped at the end of a with block."""

    def __init__(self, project: Project, log: Path, *arguments: str):
        self.port = find_free_port()
        self.url, self._log = f"http://127.0.0.1:{self.port}", log
        self.headers = {}  # of every request
        command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        for argument in arguments:
            command += ["--arg", argument]
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=project.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=default_signals,
            )

    def __enter__(self) -> "Serving":
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/livez", timeout=1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise AssertionError(self._log.read_text()) from None
                time.sleep(0.1)

    def __exit__(self, *_) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)  # as Ctrl-C does
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    def ask(self, path: str, body: bytes | None = None, method: str | None = None, **headers):
        """Status, headers and body of an answer; `content_type` and the like become headers."""
        request = urllib.request.Request(self.url + path, body, method=method)
        for name, value in ({"content_type": "application/json"} | self.headers | headers).items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def predict(self, body) -> tuple[int, dict]:
        """Status and content of the answer to a body, which is bytes or becomes JSON."""
        status, _, answer = self.ask("/predict", body if isinstance(body, bytes) else json.dumps(body).encode())
        return status, json.loads(answer, parse_constant=pytest.fail)

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes that run now."""
        return [child for child in psutil.Process(self.process.pid).children() if is_named(child, "_bentoml_impl.worker.service")]

    @property
    def log_lines(self) -> list[dict]:
        """The JSON lines of the log so far."""
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines() if line.startswith("{")]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def make_once(tmp_path_factory, worker_id: str, name: str, make) -> tuple[Path, dict]:
    """A folder and what `make` returned of it, made by the first worker that asks and shared by all; tests copy what they change."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder, answer = shared / name, shared / f"{name}.json"
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            answer.write_text(json.dumps(make(folder)))
    return folder, json.loads(answer.read_text())


@pytest.fixture(scope="session")
def retrained(tmp_path_factory, worker_id) -> tuple[Project, dict]:
    """A project whose pipeline ran once with the true defaults."""

    def retrain(folder: Path) -> dict:
        project = Project(folder)
        project.settings = {SECRET_NAME: SECRET}
        done = project.retrain("--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    folder, result = make_once(tmp_path_factory, worker_id, "retrained", retrain)
    return Project(folder), result


@pytest.fixture(scope="session")
def shipped(retrained, tmp_path_factory, worker_id) -> tuple[Project, dict]:
    """A project with all that a bento is made of and much that it must not hold, and a copy of the store.

    `plain` is its bento by `bentoml build` and, where an engine answers, its image by `bentoml containerize`; `result` is what
    `pipeline.py --containerize` printed afterwards, or `--build` without an engine, run from another folder. It is told the
    estimator that the default retrain chose.
    """

    def ship(folder: Path) -> dict:
        project = make_project(retrained, folder / "project")
        for name in (".env", "data.csv", "notebooks/notes.txt", "modeler/data/secret.txt", "tests.py"):
            (project.folder / name).write_text("SECRET=1\n")
        plain, engine = build(project), engine_answers()
        if engine:
            done = project.command("-m", "bentoml", "containerize", "breast_cancer:latest")
            assert done.returncode == 0, done.stdout + done.stderr
        from_elsewhere = project.environment | {"BENTOML_HOME": os.path.relpath(project.store, folder)}
        words = [project.folder / "pipeline.py", "--containerize" if engine else "--build", "--json", *QUICK]
        done = project.command(*words, cwd=folder, env=from_elsewhere)
        assert done.returncode == 0, done.stderr
        return {"plain": plain, "result": json.loads(done.stdout)}

    folder, made = make_once(tmp_path_factory, worker_id, "shipped", ship)
    return Project(folder / "project"), made


RENAMED = "Größe (µm) 🩺"


@pytest.fixture(scope="session")
def renamed(retrained, tmp_path_factory, worker_id) -> tuple[Project, dict]:
    """A project whose champion, the default one, met a candidate of the same rows with `mean radius` renamed.

    `refused` is what the pipeline printed, which held the candidate back, with its exit status and what the store held
    then; `promoted` is what it printed with --allow-contract-change, of cells that it ran without kernels.
    """

    def rename(folder: Path) -> dict:
        project = copy_of(retrained, folder)
        bunch = load_breast_cancer(as_frame=True)
        frame = bunch.data.rename(columns={"mean radius": RENAMED}).assign(diagnosis=bunch.target_names[bunch.target])
        frame.to_csv(project.folder / "renamed.csv", index=False)
        options = ["--data", "renamed.csv", "--target", "diagnosis", "--name", "breast_cancer", *QUICK]
        refused, stored = project.retrain(*options), project.stored
        promoted = project.retrain_here(*options, "--allow-contract-change", "--json")
        assert promoted.returncode == 0, promoted.stderr
        told = {"status": refused.returncode, "told": refused.stdout, "errors": refused.stderr, "stored": stored}
        return {"refused": told, "promoted": json.loads(promoted.stdout)}

    folder, made = make_once(tmp_path_factory, worker_id, "renamed", rename)
    return Project(folder), made


TIMEOUT = 900  # seconds for a test; a shared store, bento or image may be waited for


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the tests in two processes, each test with a timeout, unless the command line says otherwise.

    pyproject.toml would say so of `pytest --nbval notebooks` too, whose cells need one kernel, in order, and which needs
    neither pytest-xdist nor pytest-timeout.
    """
    option = config.option
    if getattr(option, "timeout", 0) is None:
        option.timeout = TIMEOUT
    untold = getattr(option, "numprocesses", 0) is None and not option.tx
    if untold and not (hasattr(config, "workerinput") or option.usepdb or getattr(option, "nbval", False)):
        option.numprocesses = 2
        option.dist = "worksteal" if option.dist == "no" else option.dist


SHARED_SLOWLY = {"shipped", "renamed"}  # what takes a build or retrains of their own


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark slow and fast tests, and let both workers begin with slow tests, of which only one needs what is shared.

    xdist gives each of two workers one half of the tests, in order, and to the first who ends a part of what the other has left.
    """
    for item in items:
        if SHARED_SLOWLY & set(item.fixturenames):
            item.add_marker("slow")
        elif "retrained" not in item.fixturenames and not {"slow", "medium"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker("fast")
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    needing = [item for item in slow if {"retrained", *SHARED_SLOWLY} & set(item.fixturenames)]
    alone = [item for item in slow if item not in needing]
    needing.sort(key=lambda item: "shipped" not in item.fixturenames)
    rest.sort(key=lambda item: "retrained" not in item.fixturenames)
    half = max(0, len(items) // 2 - len(needing))
    items[:] = needing + rest[:half] + alone + rest[half:]


def pytest_sessionfinish(session):
    """Take the shared image away, once all workers have ended."""
    if not hasattr(session.config, "workerinput") and hasattr(session.config, "_tmp_path_factory"):
        answer = session.config._tmp_path_factory.getbasetemp() / "shipped.json"
        if answer.exists() and engine_answers():
            made = json.loads(answer.read_text())
            subprocess.run(["docker", "rmi", "--force", made["plain"], made["result"]["bento"]], capture_output=True)


def engine_answers() -> bool:
    return bool(shutil.which("docker")) and subprocess.run(["docker", "version"], capture_output=True).returncode == 0


def make_project(retrained, folder: Path) -> Project:
    """A copy of the whole project, as a bento is built from it, with a copy of the store."""
    project = copy_of(retrained, folder)
    for name in ("bentofile.yaml", "requirements-serve.txt"):
        shutil.copy(ROOT / name, project.folder)
    shutil.copytree(ROOT / "modeler", project.folder / "modeler", ignore=shutil.ignore_patterns("__pycache__"))
    return project


def build(project: Project, *arguments: str) -> str:
    """The tag of the bento that `bentoml build` makes."""
    done = project.command("-m", "bentoml", "build", "--output", "tag", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("__tag__:")[2].strip()


def needs_linux(why: str) -> pytest.MarkDecorator:
    """The mark of a test that other systems cannot run, with the reason that they print."""
    return pytest.mark.skipif(not IS_LINUX, reason=f"needs Linux, {why}")


def elsewhere(folder: Path, on_linux: bool) -> dict[str, str]:
    """The variables with which other processes do without what only Linux has, unless they are to be on Linux."""
    (folder / "sitecustomize.py").write_text(f"import modeler.linux\nmodeler.linux.IS_LINUX &= {on_linux}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def own_namespace():
    """The command that lets another mount a filesystem of its own."""
    if not IS_LINUX:
        pytest.skip("needs Linux, where anybody can mount a filesystem in a namespace of their own")
    namespace = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a filesystem in a namespace of their own")
    return namespace


def read_only(*folders: Path) -> list[str]:
    """The command that lets another see folders it cannot write to; the permission bits would not stop root."""
    mounts = " && ".join(f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}"' for folder in folders)
    return [*own_namespace(), "sh", "-c", f'{mounts} && exec "$@"', "sh"]


def copy_of(retrained, folder: Path) -> Project:
    """A project that never ran, with a copy of the store, free to be damaged."""
    project = Project(folder)
    shutil.copytree(retrained[0].store / "models", project.store / "models", dirs_exist_ok=True)
    return project


@pytest.fixture
def run(retrained, tmp_path) -> Path:
    """A copy of the default run's folder, free to be damaged."""
    return Path(shutil.copytree(retrained[1]["run"], tmp_path / "run"))


@pytest.fixture(scope="session")
def forest(retrained, tmp_path_factory) -> Path:
    """The default run's folder with a forest in place of the model that the comparison chose."""
    from modeler.data.tables import load_table
    from modeler.gate.judge import judge_candidate

    folder, table = tmp_path_factory.mktemp("forest") / "run", load_table("breast_cancer")
    shutil.copytree(retrained[1]["run"], folder)
    fill_run(folder, table.frame, RandomForestClassifier(random_state=0))
    told = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": 0.5}
    assert judge_candidate(folder, table, told, {}, {}).passed  # and golden.json is written
    return folder


def fill_run(run: Path, frame, model) -> None:
    """Train a model on the columns of a run's contract, and write what train.ipynb would."""
    contract = read_json(run / "contract.json")
    target, heldout = contract["target"], split_rows(frame, contract["split"]["share"])
    X, y = encode_table(frame, contract), frame[target["name"]].to_numpy(str)
    columns = ColumnTransformer([("numbers", SimpleImputer(strategy="median"), list(X))])
    pipeline = Pipeline([("columns", columns), ("model", model)]).fit(X[~heldout], y[~heldout])
    skops.io.dump(pipeline, run / "model.skops")
    (run / "model.onnx").write_bytes(convert_pipeline(pipeline, X))
    answers = Graph(run / "model.onnx", contract).answer(raw_records(frame[heldout]))
    write_json(run / "metrics.json", score_answers(answers, y[heldout].tolist(), target))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A store of this test's own; BentoML reads BENTOML_HOME once a process, so it is told too."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models.model import ModelStore

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "bentoml" / "models"))
    yield tmp_path / "bentoml"
    BentoMLContainer.model_store.reset()


@pytest.fixture
def typed(project, home, monkeypatch, capsys):
    """What `python pipeline.py` with these words gives in the project's folder, in this process.

    A retrain runs the notebooks' cells in this process, too, and once, unless it is to take kernels and compare.
    """
    from cells import execute_here

    import pipeline

    execute_twice = pipeline.execute_twice

    def type_words(*words, kernels=False) -> subprocess.CompletedProcess:
        monkeypatch.chdir(project.folder)
        monkeypatch.setattr(pipeline, "ROOT", project.folder)
        monkeypatch.setattr(pipeline, "NOTEBOOKS", [project.folder / "notebooks" / path.name for path in pipeline.NOTEBOOKS])
        monkeypatch.setattr(pipeline, "execute_twice", execute_twice if kernels else execute_here)
        capsys.readouterr()
        status = pipeline.main([*map(str, words)])
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return type_words


def alter(run, name="made"):
    """Change a run so that it is another version with the same answers; the run and its tag."""
    (run / "contract.json").write_text((run / "contract.json").read_text() + "\n")
    from modeler.model.stored import content_version

    return run, f"{name}:{content_version(run)}"


@pytest.fixture
def small_runs(tmp_path):
    """Four runs as far as the store looks at them."""
    runs = [tmp_path / f"run{number}" for number in range(4)]
    for number, run in enumerate(runs):
        run.mkdir()
        (run / "model.onnx").write_bytes(bytes([number]) * 9000)
        for name in ("contract", "golden", "metrics"):
            (run / f"{name}.json").write_text("{}\n")
    return runs
