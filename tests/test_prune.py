"""Pruning: what goes and what stays of runs, samples, versions, bentos and images, and no name ever without its champion."""

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from conftest import engine_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_store import fault, fault_on_small_disk

from modeler import ModelerError
from modeler.commands.progress import Progress
from modeler.commands.prune import choose_old, delete_old
from modeler.model.stored import content_version, find_champion, find_damage, list_versions
from modeler.runs.prune import find_name
from modeler.store.lock import check_writable
from modeler.store.publish import note_rejection, publish_model, read_history, roll_back

LONG_AGO = time.time() - 86400


@pytest.fixture
def versions(home, small_runs) -> list[str]:
    """Four versions promoted one after the other."""
    for run in small_runs:
        publish_model(run, f"made:{content_version(run)}", {"run": run.name}, {})
    return [content_version(run) for run in small_runs]


def go_back(to=None):
    return roll_back("made", to, lambda model: None)


def make_run(runs: Path, number: int, process: int = 1, **files) -> Path:
    """A run of yesterday, `number` minutes after midnight, whose process is long gone; its JSON files by their name."""
    began = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0) - timedelta(days=1) + timedelta(minutes=number)
    folder = runs / f"{began:%Y%m%d-%H%M%S}-{process}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    age(folder)
    return folder


def age(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def make_decided(runs: Path, number: int, name: str = "made") -> Path:
    return make_run(runs, number, verdict={"verdict": "rejected", "candidate": f"{name}:0123456789abcdef"})


def make_bento(home: Path, version: str, number: int, name: str = "made", labels: dict | None = None) -> Path:
    """A bento as far as its description goes."""
    folder = home / "bentos" / name / f"b{number}"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "service.py").write_text("#" * 5000)
    model = f"made:{version}"
    described = {"name": name, "version": folder.name, "labels": {"model": model} if labels is None else labels}
    described |= {"creation_time": f"2026-01-0{number}T00:00:00+00:00", "services": [{"models": [{"tag": model}]}]}
    (folder / "bento.yaml").write_text(yaml.safe_dump(described))
    (folder.parent / "latest").write_text(folder.name)
    return folder


def prune_all(runs: Path, keep: int = 0) -> None:
    """Prune without a question and without the engine."""
    delete_old(runs, "made", keep, choose_old(runs, "made", keep), [], Progress())


# What goes, and what is said


@pytest.mark.medium
def test_listed_first_and_deleted_with_yes_alone(typed, project, home, versions, monkeypatch):
    runs = project.folder / "runs"
    old, new = (make_decided(runs, number) for number in (1, 2))
    (old / "train.html").write_bytes(b"x" * 2_500_000)
    other = make_decided(runs, 0, "other")
    for words, status in {("--dry-run",): 0, (): 2}.items():
        done = typed("prune", "made", "--keep", "1", *words)
        assert done.returncode == status, done.stderr
        assert "made: 1 run, 2 versions to delete, 2.5 MB" in done.stdout and f"made:{versions[0]}" in done.stdout
        assert f"made:{versions[2]}  the champion before" in done.stdout
        assert len(list_versions("made")) == 4 and old.exists()
    assert "prune asks on a terminal before it deletes; elsewhere give --yes. Nothing was deleted" in done.stderr
    done = typed("prune", "made", "--keep", "1", "--yes")
    assert done.returncode == 0 and "deleted 3 of 3, 2.5 MB" in done.stdout
    assert list_versions("made") == sorted(versions[2:]) and find_champion("made").version == versions[3]
    assert not old.exists() and new.exists() and other.exists()
    assert not any((home / "staging").iterdir())
    assert "made: nothing to delete" in typed("prune", "made", "--keep", "1").stdout


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("\x04", 1)])
def test_terminal_is_asked(typed, versions, monkeypatch, answer, status):
    ours, theirs = os.openpty()
    with open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(ours, f"{answer}\n".encode())
        done = typed("prune", "made", "--keep", "0")
    os.close(ours)
    assert done.returncode == status and "Delete these 2?" in done.stderr
    assert len(list_versions("made")) == (4 if status else 2)
    assert ("you did not say yes; nothing was deleted" in done.stderr) == bool(status)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["nothing", "--keep", "1"], 1, "there is no model nothing in the store"),
        (["mad", "--keep", "1"], 1, "did you mean 'made'?"),
        (["made"], 2, "the following arguments are required: --keep"),
        (["made", "--keep", "-1"], 2, "argument --keep: must be a whole number from 0 to 999999, got: -1"),
        (["made", "--keep", "all"], 2, "must be a whole number from 0 to 999999, got: all"),
        (["made:1", "--keep", "1"], 2, "must be a model's name such as breast_cancer, without a version"),
    ],
)
def test_mistake_is_one_sentence(typed, versions, words, status, told):
    done = typed("prune", *words)
    assert done.returncode == status and told in done.stderr and "Traceback" not in done.stderr
    assert len(list_versions("made")) == 4


# What stays


def test_champion_and_the_one_before_stay_after_a_rollback(home, versions, tmp_path):
    """BentoML's own deletion would have `latest` name the newest version, which is withdrawn."""
    go_back(versions[1])
    prune_all(tmp_path)
    assert find_champion("made").version == versions[1] and find_damage(find_champion("made")) is None
    assert list_versions("made") == sorted(versions[1:3])  # the last is withdrawn
    assert go_back()["after"] == versions[2]


def test_newest_versions_stay_by_when_they_were_stored(versions, tmp_path):
    go_back(versions[0])
    prune_all(tmp_path, 3)
    assert list_versions("made") == sorted(versions)
    prune_all(tmp_path, 1)
    assert list_versions("made") == sorted([versions[0], versions[2], versions[3]])


def test_version_that_a_bento_pins_stays_until_the_bento_goes(home, versions, tmp_path):
    bentos = [make_bento(home, version, number) for number, version in enumerate(versions, 1)]
    foreign = make_bento(home, versions[1], 9, name="another", labels={})
    prune_all(tmp_path, 2)
    assert [bento.exists() for bento in bentos] == [False, False, True, True]
    assert list_versions("made") == sorted(versions[1:])
    choice = choose_old(tmp_path, "made", 0)
    assert choice.staying[f"made:{versions[1]}"] == "the bento another:b9 pins it"
    shutil.rmtree(foreign.parent)
    prune_all(tmp_path)
    assert list_versions("made") == sorted(versions[2:])
    assert [bento.exists() for bento in bentos] == [False, False, True, True]  # of the champion, and of the one before


def test_what_changed_since_it_was_listed_counts(home, versions, tmp_path):
    choice = choose_old(tmp_path, "made", 0)
    assert list(choice.going["version"]) == [f"made:{version}" for version in (versions[1], versions[0])]
    go_back(versions[1])
    bento = make_bento(home, versions[0], 1)
    delete_old(tmp_path, "made", 0, choice, [], Progress())
    assert set(list_versions("made")) == set(versions) and bento.exists()


def test_latest_names_a_bento_that_is_there(home, versions, tmp_path):
    kept = make_bento(home, versions[3], 1)
    make_bento(home, versions[0], 2)
    prune_all(tmp_path)
    assert (home / "bentos" / "made" / "latest").read_text() == kept.name and [*kept.parent.glob("b*")] == [kept]
    shutil.rmtree(kept)
    make_bento(home, versions[0], 3)
    prune_all(tmp_path)
    assert not (home / "bentos" / "made").exists()


def test_bentos_of_others_under_the_name_stay(home, versions, tmp_path):
    foreign = make_bento(home, versions[0], 1, labels={"team": "ours"})
    prune_all(tmp_path)
    assert foreign.exists() and versions[0] in list_versions("made")


def test_bento_that_cannot_be_read_stops_it(home, versions, tmp_path):
    (make_bento(home, versions[0], 1, name="another") / "bento.yaml").unlink()
    with pytest.raises(ModelerError, match="the bento another:b1 cannot be read, so it is not known what it pins"):
        prune_all(tmp_path)
    assert len(list_versions("made")) == 4


def test_name_without_a_champion_is_left_alone(home, versions, tmp_path):
    (home / "models" / "made" / "latest").unlink()
    with pytest.raises(ModelerError, match="made has versions and no champion.*rollback made --to VERSION` makes one"):
        prune_all(tmp_path)
    assert len(list_versions("made")) == 4


@pytest.fixture
def process():
    """A process that is at work."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as running:
        yield running
        running.kill()


def test_run_at_work_stays_and_so_does_what_it_uses(home, versions, small_runs, tmp_path, process):
    runs = tmp_path / "runs"
    gone = make_run(runs, 1, process=2**22 + 1)  # no process has this number
    make_run(runs, 2, process=process.pid)  # it was started long after this run began
    began = datetime.now(timezone.utc)
    work = runs / f"{began:%Y%m%d-%H%M%S}-{process.pid}"
    work.mkdir()
    (work / "model").mkdir()
    (work / "model" / versions[0]).symlink_to(home / "models" / "made" / versions[0])  # as `monitor` does
    age(work)
    (gone / "made.csv").symlink_to(tmp_path / "made.csv")
    age(gone)
    assert find_name(work) == find_name(gone) == "made"
    choice = choose_old(runs, "made", 0)
    assert choice.staying[f"made:{versions[0]}"] == "a run that still works uses it"
    assert choice.staying[work.name] == f"its process {process.pid} is at work"
    prune_all(runs)
    assert work.exists() and not gone.exists()
    assert {versions[0], versions[2], versions[3]} <= set(list_versions("made"))
    shutil.rmtree(work)
    prune_all(runs)
    assert list_versions("made") == sorted(versions[2:])


def test_all_champions_since_a_run_began_stay(home, versions, tmp_path, process):
    """Its candidate may be compared with any of them just now."""
    runs = tmp_path / "runs"
    (runs / f"{datetime.now(timezone.utc) - timedelta(seconds=2):%Y%m%d-%H%M%S}-{process.pid}").mkdir(parents=True)
    prune_all(runs)
    assert set(list_versions("made")) == set(versions)


def test_run_without_a_verdict_stays_for_an_hour(home, versions, tmp_path):
    runs = tmp_path / "runs"
    run = make_run(runs, 1, process=2**22 + 1, provenance={"name": "made"})
    (run / "eda.ipynb").write_text("{}")
    assert choose_old(runs, "made", 0).staying[run.name] == "it has no verdict and was changed within the last hour"
    age(run)
    assert list(choose_old(runs, "made", 0).going["run"]) == [run.name]
    os.utime(run)
    assert not choose_old(runs, "made", 0).going["run"]
    for done in ("drift.json", "compare.json", "failed.json"):  # of a monitor, a comparison and a run that failed
        (run / done).write_text("{}")
        assert list(choose_old(runs, "made", 0).going["run"]) == [run.name]
        (run / done).unlink()


def test_sweep_goes_whole_and_not_while_a_process_holds_it(home, versions, tmp_path):
    runs = tmp_path / "runs"
    sweep = make_run(runs, 1, sweep={"options": {"name": None, "data": "/data/made.csv"}, "combinations": []})
    (sweep / "01").mkdir()
    (sweep / "01" / "verdict.json").write_text("{}")
    held = os.open(sweep, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert choose_old(runs, "made", 0).staying[sweep.name] == "a process works on it"
    os.close(held)
    prune_all(runs)
    assert not sweep.exists()


def test_run_of_a_version_that_stays_stays_with_its_sample(home, small_runs, tmp_path):
    runs = tmp_path / "runs"
    kept, gone = make_decided(runs, 1), make_decided(runs, 2)
    samples = [runs / ".samples" / (digit * 12) for digit in "abc"]
    for sample, run in zip(samples, (kept / "01", gone, None)):
        sample.mkdir(parents=True)
        (sample / "rows.csv").write_text("x\n")
        age(sample)
        if run:
            run.mkdir(exist_ok=True)
            (run / "rows.csv").symlink_to(sample / "rows.csv")
    fresh = runs / ".samples" / ("d" * 12)
    fresh.mkdir()
    publish_model(small_runs[0], f"made:{content_version(small_runs[0])}", {"run": f"{kept.name}/01"}, {})
    prune_all(runs)
    assert kept.exists() and not gone.exists()
    assert sorted(path.name[0] for path in (runs / ".samples").iterdir()) == ["a", "d"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("verdict.json", {"candidate": "made:0"}),
        ("provenance.json", {"name": "made", "data": {"name": "other"}}),
        ("provenance.json", {"data": {"name": "made"}}),
        ("drift.json", {"model": "made:0"}),
        ("sweep.json", {"options": {"name": "made", "data": "other.csv"}}),
        ("sweep.json", {"options": {"name": None, "data": "/x/Made .csv"}}),
        ("eda.ipynb", {"metadata": {"papermill": {"parameters": {"data": "made.parquet"}}}}),
    ],
)
def test_name_of_a_run_is_found_in_its_files(tmp_path, file, content):
    assert find_name(tmp_path) is None
    (tmp_path / file).write_text(json.dumps(content))
    assert find_name(tmp_path) == "made"
    (tmp_path / file).write_text('{"data": []')
    assert find_name(tmp_path) is None


def test_run_that_the_history_names_is_one_of_the_name(home, small_runs, tmp_path):
    runs = tmp_path / "runs"
    run = make_decided(runs, 1, "table")
    publish_model(small_runs[0], f"made:{content_version(small_runs[0])}", {"run": "another"}, {})
    note_rejection(f"made:{content_version(small_runs[1])}", run, {}, ["worse"])
    assert list(choose_old(runs, "made", 0).going["run"]) == [run.name]


# Kills, and any sequence


def test_whoever_is_killed_before_any_file_is_deleted_leaves_nothing_half(home, versions, tmp_path, monkeypatch):
    run = make_decided(tmp_path, 1)
    with monkeypatch.context() as killed:
        killed.setattr("shutil.rmtree", lambda *_, **__: None)
        prune_all(tmp_path)
    assert list_versions("made") == sorted(versions[2:]) and not run.exists()
    assert len([*(home / "staging").glob("*/*/model.yaml")]) == 2 and len([*tmp_path.glob(".*.pruned")]) == 1
    make_decided(tmp_path, 2)
    prune_all(tmp_path)
    check_writable()
    assert not any((home / "staging").iterdir()) and not [*tmp_path.glob(".*.pruned")]


@pytest.mark.slow
def test_store_is_whole_after_each_kill_of_a_prune(home, small_runs, tmp_path):
    fault(home, ["prunes", *small_runs])


@pytest.mark.slow
def test_full_disk_can_be_pruned(small_runs, tmp_path):
    fault_on_small_disk(tmp_path / "bentoml", ["full_prune", *small_runs])


STEPS = st.one_of(
    st.tuples(st.just("retrain"), st.integers(0, 3)),
    st.tuples(st.just("reject"), st.integers(0, 3)),
    st.tuples(st.just("roll back"), st.none() | st.integers(0, 3)),
    st.tuples(st.just("build"), st.integers(0, 3)),
    st.tuples(st.just("prune"), st.integers(0, 2)),
)


@pytest.mark.medium
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_no_sequence_leaves_a_name_without_a_champion_that_verifies(home, small_runs, tmp_path, steps):
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(runs := tmp_path / "runs", ignore_errors=True)
    known = [content_version(run) for run in small_runs]
    for number, (step, one) in enumerate([("retrain", 0), ("retrain", 1), *steps]):
        before = find_champion("made") if number else None
        try:
            take_step(step, one, number, home, small_runs, known, runs)
        except ModelerError as error:
            assert step == "roll back", error
        champion = find_champion("made")
        assert champion and find_damage(champion) is None
        assert not any(find_damage(type(champion)(f"made:{one}", champion.path.parent / one)) for one in list_versions("made"))
        assert step != "prune" or champion == before
    if len(list_versions("made")) > 1 and find_former(known):
        assert go_back()["after"] == find_champion("made").version


def take_step(step, one, number, home, small_runs, known, runs):
    if step == "retrain":
        run = make_decided(runs, number)
        publish_model(small_runs[one], f"made:{known[one]}", {"run": run.name}, {}, readmit=True)
    elif step == "reject":
        note_rejection(f"made:{known[one]}", make_decided(runs, number), {}, ["worse"])
    elif step == "roll back":
        go_back(None if one is None else known[one])
    elif step == "build" and known[one] in list_versions("made") and not (home / "bentos" / "made" / f"b{number}").exists():
        make_bento(home, known[one], number)
    elif step == "prune":
        former = find_former(known)
        pinned = {yaml.safe_load(path.read_text())["labels"]["model"][5:] for path in home.glob("bentos/*/*/bento.yaml")}
        prune_all(runs, one)
        left = {yaml.safe_load(path.read_text())["labels"]["model"][5:] for path in home.glob("bentos/*/*/bento.yaml")}
        assert left <= set(list_versions("made")) and left <= pinned and former == find_former(known)
        assert len(list_versions("made")) <= one + 2 + len(left)


def find_former(known) -> str | None:
    """What a rollback would make the champion."""
    from modeler.store.history import list_former_champions

    former = list_former_champions(read_history("made"), find_champion("made").version)
    return next((version for version in former if version in list_versions("made")), None)


# Bentos and images that are real


def test_bentos_that_bentoml_built_are_found(shipped, home, tmp_path):
    project, made = shipped
    for kind in ("models", "bentos"):
        shutil.copytree(project.store / kind, home / kind)
    plain, built = made["plain"], made["result"]["bento"]
    choice = choose_old(tmp_path, "breast_cancer", 0)
    assert list(choice.going["bento"]) == [plain] and choice.staying[built] == "of the champion"
    delete_old(tmp_path, "breast_cancer", 0, choice, [], Progress())
    words = [sys.executable, "-m", "bentoml", "list", "-o", "json"]
    done = subprocess.run(words, env=os.environ | {"BENTOML_HOME": str(home)}, capture_output=True, text=True, check=True)
    assert [one["tag"] for one in json.loads(done.stdout)] == [built]


def import_image(tag: str, **labels) -> str:
    """The ID of an image that holds one file, as fast as an engine makes one."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        file = tarfile.TarInfo(uuid.uuid4().hex)
        file.size = 4096
        tar.addfile(file, io.BytesIO(b"x" * 4096))
    changes = [word for name, value in labels.items() for word in ("--change", f"LABEL {name}={value}")]
    command = ["docker", "import", "--change", 'CMD ["/x"]', *changes, "-", tag]
    return subprocess.run(command, input=archive.getvalue(), capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.slow
@pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")
def test_untagged_images_and_those_of_bentos_that_go_are_deleted(home, small_runs, typed):
    name = f"made{uuid.uuid4().hex[:8]}"
    for run in small_runs:
        publish_model(run, f"{name}:{content_version(run)}", {}, {})
    version = content_version(small_runs[0])
    bento = make_bento(home, version, 1, name=name, labels={"model": f"{name}:{version}"})
    ours = {"model": f"{name}:{version}", "run": "r", "data": "d", "commit": "c"}
    tag, other = f"{name}:{bento.name}", f"{name}:mine"
    untagged = import_image(tag, **ours)
    used = import_image(tag, **ours)
    container = subprocess.run(["docker", "create", used], capture_output=True, check=True).stdout.decode().strip()
    import_image(tag, **ours)
    foreign = [import_image(other, model=f"{name}:{version}"), import_image(other, **ours | {"model": f"x{name}:1"})]
    import_image(other, **ours)
    try:
        done = typed("prune", name, "--keep", "0", "--yes")
        assert done.returncode == 0, done.stderr
        assert "2 images" in done.stdout and untagged in done.stdout and tag in done.stdout
        known = subprocess.run(["docker", "image", "ls", "-aq", "--no-trunc"], capture_output=True, text=True).stdout
        assert untagged not in known and used in known and all(image in known for image in foreign)
        tags = subprocess.run(["docker", "image", "ls", name, "--format", "{{.Tag}}"], capture_output=True, text=True).stdout
        assert tags.split() == ["mine"] and not bento.exists() and version not in list_versions(name)
    finally:
        subprocess.run(["docker", "rm", container], capture_output=True)
        subprocess.run(["docker", "image", "rm", other, tag, untagged, used, *foreign], capture_output=True)


@pytest.mark.parametrize("lacking", [{"DOCKER_HOST": "unix:///nowhere/docker.sock"}, {"PATH": "/nowhere"}])
def test_without_an_engine_the_rest_is_pruned(versions, typed, monkeypatch, lacking):
    for name, value in lacking.items():
        monkeypatch.setenv(name, value)
    done = typed("prune", "made", "--keep", "0", "--yes")
    assert done.returncode == 0 and "deleted 2 of 2" in done.stdout
