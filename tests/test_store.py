"""The store: whole models or none, `latest` last, and BentoML's own commands at ease with it."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import alter, own_namespace

from modeler import ModelerError
from modeler.model.stored import content_version, find_champion, find_damage, list_versions, load_model
from modeler.store.lock import find_user
from modeler.store.publish import publish_model

PUBLISH = """
import sys
from pathlib import Path
from modeler import ModelerError
from modeler.model.stored import content_version
from modeler.store.lock import check_writable
from modeler.store.publish import publish_model
run = Path(sys.argv[1])
try:
    check_writable()
    publish_model(run, f"made:{content_version(run)}", {}, {})
except ModelerError as error:
    print(error)
"""


def run_published(run, home, *before):
    command = [*before, sys.executable, "-c", PUBLISH, str(run)]
    return subprocess.run(command, env=os.environ | {"BENTOML_HOME": str(home)}, capture_output=True, text=True)


def list_models(home):
    command = [sys.executable, "-m", "bentoml", "models", "list", "-o", "json"]
    return subprocess.run(
        command, env=os.environ | {"BENTOML_HOME": str(home)}, capture_output=True, text=True, check=True
    ).stdout


def test_version_is_the_hash_of_graph_and_contract(run):
    import hashlib

    content = (run / "model.onnx").read_bytes() + (run / "contract.json").read_bytes()
    assert content_version(run) == hashlib.sha256(content).hexdigest()[:16]


def test_published_model_is_the_champion_with_every_file_of_its_run(run, home):
    version = content_version(run)
    assert find_champion("made") is None
    assert publish_model(run, f"made:{version}", {"run": "r1"}, {"metrics": {"accuracy": 1.0}})["after"] == version
    assert publish_model(run, f"made:{version}", {"run": "r2"}, {}) is None
    assert find_champion("made").tag == f"made:{version}" == load_model("made").tag
    stored = find_champion("made").path
    assert {path.name for path in stored.iterdir()} == {path.name for path in run.iterdir() if path.is_file()} | {"model.yaml"}
    assert not list(stored.rglob("*.pkl"))
    assert version in list_models(home)
    assert not any((home / "staging").iterdir())


def test_another_version_moves_latest_and_keeps_the_first(run, home):
    first = content_version(run)
    publish_model(run, f"made:{first}", {}, {})
    (run / "contract.json").write_text("{}\n")
    second = content_version(run)
    publish_model(run, f"made:{second}", {}, {})
    assert find_champion("made").version == second
    assert load_model(f"made:{first}").version == first


def test_older_version_becomes_champion_again_without_being_stored_twice(run, home, tmp_path):
    older = shutil.copytree(run, tmp_path / "older")
    first = content_version(run)
    publish_model(run, f"made:{first}", {"run": "first"}, {})
    (run / "contract.json").write_text("{}\n")
    publish_model(run, f"made:{content_version(run)}", {}, {})
    publish_model(older, f"made:{first}", {"run": "again"}, {})
    assert find_champion("made").version == first
    assert len([path for path in (home / "models" / "made").iterdir() if path.is_dir()]) == 2
    assert "run: first" in (find_champion("made").path / "model.yaml").read_text()


def test_files_can_be_read_by_every_user(run, home):
    publish_model(run, f"made:{content_version(run)}", {}, {})
    for path in [home / "models" / "made" / content_version(run), *find_champion("made").path.iterdir()]:
        assert path.stat().st_mode & 0o004, path


def test_model_that_was_changed_in_the_store_is_reported_not_loaded(run, home):
    version = content_version(run)
    publish_model(run, f"made:{version}", {}, {})
    graph = find_champion("made").path / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"x")
    with pytest.raises(ModelerError, match=f"made:{version} was changed after it was stored.*bentoml models delete"):
        load_model("made")
    graph.unlink()
    with pytest.raises(ModelerError, match=f"made:{version} lacks model.onnx"):
        load_model("made")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "contract.json", "golden.json", "metrics.json", "model.yaml"])
@pytest.mark.parametrize("lost", [True, False])
def test_damaged_champion_is_stored_again_by_the_run_that_makes_it(run, home, file, lost):
    version = content_version(run)
    publish_model(run, f"made:{version}", {}, {})
    damaged = find_champion("made").path / file
    damaged.unlink()
    assert find_damage(find_champion("made"))
    if not lost:
        damaged.write_text("?")
    event = publish_model(run, f"made:{version}", {}, {})
    assert (event["before"], event["after"]) == (version, version)
    assert f"made:{version} " in event["reasons"][0] and event["reasons"][0].endswith("it was stored again")
    assert find_damage(load_model("made")) is None and version in list_models(home)
    assert publish_model(run, f"made:{version}", {}, {}) is None


def test_damaged_champion_is_followed_by_another_version(run, home):
    first = content_version(run)
    publish_model(run, f"made:{first}", {}, {})
    (find_champion("made").path / "model.onnx").write_bytes(b"?")
    event = publish_model(*alter(run), {}, {})
    assert event["before"] == first and find_champion("made").version == event["after"] == event["version"]
    assert event["reasons"][0].startswith("the champion before could not be used: made:")


@pytest.mark.parametrize("tag", ["nothing", "nothing:latest", "nothing:0123456789abcdef", "Not a tag"])
def test_unknown_model_says_what_there_is_and_how_to_make_one(home, tag):
    with pytest.raises(ModelerError, match=f"there is no model {tag} in the store .*`bentoml models list` shows"):
        load_model(tag)


def test_store_that_is_no_folder_is_explained(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_published(run, tmp_path / "file")
    assert "cannot be written: Not a directory; make room or permit writing there, or set BENTOML_HOME" in done.stdout


@pytest.mark.parametrize(
    ("options", "reason"), [("size=1m", "No space left on device"), ("ro", "Read-only file system")]
)
def test_full_or_read_only_store_is_explained_and_left_as_it_was(run, tmp_path, options, reason):
    """On a small or read-only filesystem of its own, mounted in a namespace of its own."""
    home = tmp_path / "bentoml"
    home.mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs {home} && "$@"; echo; find {home} -type f'
    done = run_published(run, home, *own_namespace(), "sh", "-c", script, "sh")
    assert f"cannot be written: {reason}; make room" in done.stdout, done
    assert done.stdout.rstrip().endswith("No model was changed") and not done.stderr


def test_model_that_was_stored_by_other_means_is_named(run, home):
    publish_model(run, f"made:{content_version(run)}", {}, {})
    (find_champion("made").path / "metrics.json").unlink()
    with pytest.raises(ModelerError, match="has no readable metrics.json; remove it with `bentoml models delete made:"):
        find_champion("made").read("metrics.json")


# Faults: the processes are those of store_faults.py


def fault(home, words, *before):
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    command = [*before, sys.executable, str(Path(__file__).with_name("store_faults.py")), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fault_on_small_disk(home, words):
    """The same with a store of 1 MB."""
    home.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs {home} && "$@"'
    return fault(home, words, *own_namespace(), "sh", "-c", script, "sh")


@pytest.mark.slow
def test_store_is_whole_after_each_of_120_kills(home, small_runs):
    fault(home, ["kills", *small_runs])
    assert find_champion("made").version in list_models(home)


@pytest.mark.slow
def test_two_writers_and_two_readers_hinder_each_other_never(home, small_runs):
    fault(home, ["competition", *small_runs])


@pytest.mark.slow
def test_disk_that_is_full_at_any_step_changes_nothing_or_all(small_runs, tmp_path):
    fault_on_small_disk(tmp_path / "bentoml", ["full_disk", *small_runs])


@pytest.mark.parametrize("tag", ["breast_cancer", "breast_cancer:latest"])
def test_model_is_found_without_the_import_of_bentoml(retrained, tag):
    ask = "import sys; from modeler.model.stored import find_model as find; print(find(sys.argv[1]).tag, 'bentoml' in sys.modules)"
    assert retrained[0].command("-c", ask, tag).stdout.split() == [retrained[1]["model"], "False"]


@pytest.mark.medium
def test_locked_name_is_waited_for_and_then_its_holder_named(home, small_runs, monkeypatch):
    monkeypatch.setattr("modeler.store.lock.LOCK_SECONDS", 0.5)
    script = (
        "import time; from modeler.store.lock import lock_name\nwith lock_name('made'): print(flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, "with words"], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        with pytest.raises(ModelerError) as refused:
            publish_model(small_runs[0], f"made:{content_version(small_runs[0])}", {}, {})
        other = publish_model(small_runs[0], f"other:{content_version(small_runs[0])}", {}, {})
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    told = str(refused.value)
    assert f"the store's made is being changed by {find_user()} on {socket.gethostname()}, process {holder.pid}" in told
    assert "(`-c 'with words'`), since 20" in told and "for more than 0.5 s; run again when that is done" in told
    assert other and find_champion("made") is None
    assert publish_model(small_runs[0], f"made:{content_version(small_runs[0])}", {}, {})


def test_staging_folders_of_the_dead_are_cleared_and_those_of_the_living_kept(home):
    from modeler.store.lock import check_writable

    script = "import time; from modeler.store.lock import stage_files\nwith stage_files() as folder: print(folder, flush=True); time.sleep(600)"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        dead, living = [Path(process.stdout.readline().strip()) for process in processes]
        processes[0].kill()
        processes[0].wait()
        assert dead.exists()
        check_writable()
        assert not dead.exists() and living.exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def test_candidate_that_was_compared_with_a_former_champion_is_judged_again_under_the_lock(home, small_runs):
    first, second, third = (f"made:{content_version(run)}" for run in small_runs[:3])
    judged = []

    def judge(verdict):
        def judge_again(champion):
            with open(home / "models" / ".made.lock") as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            judged.append(champion.tag)
            return {"verdict": verdict, "reasons": ["worse"] if verdict == "rejected" else []}

        return judge_again

    publish_model(small_runs[0], first, {}, {}, judged_against="", judge=pytest.fail)
    publish_model(small_runs[1], second, {}, {}, judged_against=first.partition(":")[2], judge=pytest.fail)
    for stale in ("", first.partition(":")[2]):
        event = publish_model(small_runs[2], third, {"run": "r"}, {}, judged_against=stale, judge=judge("rejected"))
        assert (event["event"], event["reasons"], event["run"]) == ("rejected", ["worse"], "r")
        assert event["before"] == event["after"] == second.partition(":")[2]
    assert find_champion("made").tag == second and list_versions("made") == sorted(t[-16:] for t in (first, second))
    event = publish_model(small_runs[2], third, {}, {}, verdict={}, judged_against="", judge=judge("promoted"))
    assert event["event"] == "promoted" and find_champion("made").tag == third
    assert find_champion("made").read("verdict.json")["verdict"] == "promoted" and judged == [second] * 3
