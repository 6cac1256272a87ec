"""Batch scoring by real Dask workers: the same bytes whoever does the work, and nothing lost when one of them dies."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest
from clusters import start_scheduler, start_worker, wait_for
from conftest import ROOT, default_signals, is_alive
from test_score import hold_store, make_frame, read_bytes, run, score_json, write_csv

from modeler import ModelerError
from modeler.cluster.connect import SAME, _check_versions, open_cluster
from modeler.score.job import THREADS
from modeler.score.scorer import Job
from modeler.score.workers import score_pieces

DASK = Path(sys.executable).with_name("dask")
LIMIT = 1_000_000_000  # bytes that a worker may take


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with hold_store(tmp_path_factory.mktemp("store")) as model:
        yield model


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """120,000 rows in 120 row groups, as Parquet, and the first 40,000 of them as .csv."""
    folder = tmp_path_factory.mktemp("many")
    frame = make_frame(120_000)
    frame.to_parquet(folder / "rows.parquet", row_group_size=1000)
    write_csv(frame[:40_000], folder / "rows.csv")
    return folder


@pytest.fixture(scope="module")
def much(many, tmp_path_factory) -> Path:
    """A folder with these rows five times."""
    folder = tmp_path_factory.mktemp("much")
    for number in range(5):
        os.link(many / "rows.parquet", folder / f"{number}.parquet")
    return folder


def command(*words) -> dict:
    """How a scoring is started as a process, as workers on this machine need it."""
    words = [sys.executable, "pipeline.py", "score", *map(str, words), "--model", "made", "--json"]
    return {"args": words, "cwd": ROOT, "text": True, "preexec_fn": default_signals}


def score(*words) -> dict:
    done = subprocess.run(**command(*words), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler with two workers: its address, and the processes of the workers."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        address = start_scheduler(stack, folder)
        workers = [stack.enter_context(start_worker(address, folder / f"worker{number}")) for number in range(2)]
        wait_for(lambda: count_workers(address) == 2)
        yield address, workers, folder


def count_workers(address: str) -> int:
    from distributed import Client

    with Client(address, timeout=20) as client:
        return len(client.nthreads())


def run_until_half(output: Path, *words) -> subprocess.Popen:
    """A scoring that goes on, once a good part of its rows is in the hidden draft."""
    process = subprocess.Popen(**command(*words, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def begun() -> bool:
        assert process.poll() is None, process.communicate()
        return any(path.stat().st_size > 1_000_000 for path in output.parent.glob(f".{output.name}.*/{output.name}"))

    wait_for(begun)
    return process


@pytest.mark.slow
def test_bytes_are_the_same_by_one_process_workers_here_and_workers_elsewhere(store, many, cluster, tmp_path, capsys):
    for form, rows in {"parquet": 120_000, "csv": 40_000}.items():
        outputs = {
            "here": ["out.parquet", "out.csv", "out/"],
            "local:2": ["out/"] if form == "parquet" else ["out.csv"],  # threads, processes
            cluster[0]: ["out.csv", "out/"] if form == "parquet" else ["out.parquet"],
        }
        for number, (place, names) in enumerate(outputs.items()):
            (tmp_path / form / str(number)).mkdir(parents=True)
            for name in names:
                words = many / f"rows.{form}", f"{tmp_path}/{form}/{number}/{name}"
                told = ["--cluster", place] if number else []
                result = score(*words, *told) if place == "local:2" else score_json(capsys, *words, *told)
                assert result["answered"] == result["rows"] == rows and result["peak_memory"] < LIMIT
        here, *others = (read_bytes(tmp_path / form / str(number)) for number in range(3))
        for number, other in enumerate(others, start=1):
            for path, digest in other.items():
                assert here[tmp_path / form / "0" / path.relative_to(tmp_path / form / str(number))] == digest, path


@pytest.mark.slow
def test_workers_elsewhere_are_shipped_the_package_and_keep_nothing(store, cluster, many, tmp_path, capsys):
    from distributed import Client

    score_json(capsys, many / "rows.csv", tmp_path / "out.csv", "--cluster", cluster[0])

    def look(dask_worker):
        return sys.modules["modeler"].__file__, list(dask_worker.plugins)

    with Client(cluster[0]) as client:
        found = client.run(look)
    assert all("/modeler-" in path for path, _ in found.values()) and len(found) == 2
    assert not any(name.startswith("modeler") for _, names in found.values() for name in names)
    left = {path.suffix for path in cluster[2].glob("worker*/scratch/**/*") if path.is_file()}
    assert not left & {".onnx", ".json"}
    assert not any(any((cluster[2] / f"worker{number}" / "home").iterdir()) for number in range(2))


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["golden.json", "model.onnx"])
def test_worker_answers_the_golden_rows_before_it_scores(damaged, store, cluster):
    files = {name: (store.path / name).read_bytes() for name in ("model.onnx", "contract.json", "golden.json")}
    golden = json.loads(files["golden.json"])
    golden["answers"][7]["probabilities"]["no"] += 1e-4
    files |= (
        {"golden.json": json.dumps(golden).encode()} if damaged == "golden.json" else {damaged: files[damaged] + b" "}
    )
    told = "differs from its golden rows" if damaged == "golden.json" else "was changed after it was stored"
    with open_cluster(cluster[0], 1) as workers, pytest.raises(ModelerError, match=told):
        list(score_pieces(workers, store.tag, files, Job(["x"], [], pa.schema([]), "csv"), [()]))


@pytest.mark.slow
def test_work_of_a_killed_worker_is_done_elsewhere(store, many, cluster, tmp_path, capsys):
    score_json(capsys, many / "rows.parquet", tmp_path / "whole.csv")
    with start_worker(cluster[0], cluster[2] / "doomed") as doomed:
        wait_for(lambda: count_workers(cluster[0]) == 3)
        process = run_until_half(tmp_path / "out.csv", many / "rows.parquet", "--cluster", cluster[0])
        doomed.send_signal(signal.SIGKILL)
        printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert json.loads(printed)["answered"] == 120_000
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "whole.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("workers, sent", [(3, signal.SIGKILL), (3, signal.SIGTERM), (1, signal.SIGTERM)])
def test_killed_scoring_leaves_no_result_and_no_worker(workers, sent, store, much, tmp_path):
    process = run_until_half(tmp_path / "out.csv", much, "--cluster", f"local:{workers}")
    family = psutil.Process(process.pid).children(recursive=True)
    assert (len(family) >= workers) == (workers > THREADS)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9}.get(sent, 130) and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert sent == signal.SIGKILL or list(tmp_path.iterdir()) == []
    wait_for(lambda: not any(map(is_alive, family)), seconds=20)


@pytest.mark.slow
def test_fault_of_a_late_row_group_refuses_all(store, many, cluster, tmp_path, capsys):
    table = pa.parquet.read_table(many / "rows.parquet")
    count = table["count"].combine_chunks().to_numpy().astype(float)
    count[119_500] = float("inf")
    table = table.set_column(table.column_names.index("count"), "count", pa.array(count))
    pa.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=1000)
    (tmp_path / "to").mkdir()
    for words in ([], ["--cluster", cluster[0]]):
        status, _, said = run(capsys, tmp_path / "rows.parquet", f"{tmp_path}/to/out/", *words)
        assert (
            status == 1
            and "row 119500, 'count': must be a finite number; in training 0 to 8, and is 'Infinity'" in said
        )
        assert "Traceback" not in said and list((tmp_path / "to").iterdir()) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(store, many, much, tmp_path):
    inputs = [many / "rows.parquet", much]
    peaks = [
        score(rows, f"{tmp_path}/out{number}/", "--cluster", "local:1")["peak_memory"]
        for number, rows in enumerate(inputs)
    ]
    assert peaks[1] < LIMIT and peaks[1] < peaks[0] + 100_000_000
    assert pa.parquet.read_table(tmp_path / "out1", columns=["warnings"]).num_rows == 600_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent", "no port"])
def test_address_where_nobody_answers_is_one_sentence_within_ten_seconds(kind, store, many, tmp_path, capsys):
    with socket.socket() as silent:  # takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1] if kind == "silent" else 9
        address, started = "nowhere" if kind == "no port" else f"tcp://127.0.0.1:{port}", time.monotonic()
        status, _, said = run(capsys, many / "rows.csv", tmp_path / "out.csv", "--cluster", address)
        assert status == 1 and time.monotonic() - started < 10
    assert f"--cluster {address}: no Dask scheduler answers there" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_versions_that_differ_are_all_named():
    packages = dict.fromkeys(SAME, "1.0")
    told = {"host": {"python": "3.11.7.final.0"}, "packages": packages}
    found = {"client": told, "scheduler": told, "workers": {"tcp://a": told, "tcp://b": told}}
    _check_versions(found)
    other = copy.deepcopy(told)
    other["packages"] |= {"numpy": "1.9", "pyarrow": None}
    other["host"]["python"] = "3.12.1.final.0"
    with pytest.raises(ModelerError) as refused:
        _check_versions(found | {"workers": {"tcp://a": told, "tcp://b": other, "tcp://c": other}})
    assert str(refused.value).splitlines() == [
        "the cluster has other versions than this machine; install the same there:",
        "  numpy 1.9, here 1.0: worker tcp://b, worker tcp://c",
        "  pyarrow is missing, here 1.0: worker tcp://b, worker tcp://c",
        "  python 3.12, here 3.11: worker tcp://b, worker tcp://c",
    ]


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server on the loopback: its file system, and what an address of it ends in."""
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    system, _ = pa.fs.FileSystem.from_uri(f"s3://bucket{settings}&allow_bucket_creation=true")
    system.create_dir("bucket")
    yield system, settings
    server.stop()


@pytest.mark.slow
def test_objects_of_s3_are_read_and_written_whole(store, many, bucket, tmp_path, capsys):
    system, end = bucket
    for name in ("rows.parquet", "rows.csv"):
        pa.fs.copy_files(str(many / name), f"bucket/in/{name}", pa.fs.LocalFileSystem(), system)
    score_json(capsys, many / "rows.parquet", f"{tmp_path}/out/")
    score_json(capsys, many / "rows.csv", tmp_path / "out.csv")
    score(f"s3://bucket/in/*.parquet{end}", f"s3://bucket/out/{end}", "--cluster", "local:1")
    score_json(capsys, f"s3://bucket/in/rows.csv{end}", f"s3://bucket/out.csv{end}")

    def read(path: str) -> bytes:
        with system.open_input_stream(path) as file:
            return file.read()

    for path in (tmp_path / "out").iterdir():
        assert read(f"bucket/out/{path.name}") == path.read_bytes(), path.name
    assert read("bucket/out.csv") == (tmp_path / "out.csv").read_bytes()
    for words, told in {
        (f"s3://bucket/in/{end}", f"s3://bucket/out/{end}"): "s3://bucket/out/ is there already",
        (f"s3://bucket/none/{end}", f"s3://bucket/new/{end}"): "s3://bucket/none/ does not exist",
        (f"s3://bucket/in/rows.csv{end}", f"s3://nobucket/new/{end}"): "there is no bucket nobucket for the output",
    }.items():
        status, _, said = run(capsys, *words)
        assert status == 1 and told in said
    pa.fs.copy_files(str(many / "rows.csv"), "bucket/out/part-00007.parquet", pa.fs.LocalFileSystem(), system)
    score_json(capsys, f"s3://bucket/in/rows.csv{end}", f"s3://bucket/out/{end}", "--overwrite", "--faults", "skip")
    found = system.get_file_info(pa.fs.FileSelector("bucket", recursive=True))
    names = {info.path for info in found if info.is_file}
    parts = {f"bucket/out/{name}" for name in ("_model.json", "part-00000.parquet")}
    assert names == parts | {"bucket/out.faults.csv", "bucket/out.csv", "bucket/in/rows.csv", "bucket/in/rows.parquet"}
