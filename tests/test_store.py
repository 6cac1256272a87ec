"""The store: whole models or none, `latest` last, and BentoML's own commands at ease with it."""

import os
import shutil
import subprocess
import sys

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore

from modeler import ModelerError
from modeler.store import content_version, find_champion, load_model, publish_model

PUBLISH = """
import sys
from pathlib import Path
from modeler import ModelerError
from modeler.store import check_writable, content_version, publish_model
run = Path(sys.argv[1])
try:
    check_writable()
    publish_model(run, f"made:{content_version(run)}", {}, {})
except ModelerError as error:
    print(error)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A store of this test's own; BentoML reads BENTOML_HOME once a process, so it is told too."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "bentoml" / "models"))
    yield tmp_path / "bentoml"
    BentoMLContainer.model_store.reset()


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
    assert publish_model(run, f"made:{version}", {"run": "r1"}, {"metrics": {"accuracy": 1.0}}) is True
    assert publish_model(run, f"made:{version}", {"run": "r2"}, {}) is False
    assert find_champion("made").tag == f"made:{version}" == load_model("made").tag
    stored = find_champion("made").path
    assert {path.name for path in stored.iterdir()} == {path.name for path in run.iterdir()} | {"model.yaml"}
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
    for touch in (lambda: load_model("made"), lambda: publish_model(run, f"made:{version}", {}, {})):
        with pytest.raises(
            ModelerError, match=f"made:{version} was changed after it was stored.*bentoml models delete"
        ):
            touch()
    graph.unlink()
    with pytest.raises(ModelerError, match=f"made:{version} lacks model.onnx"):
        load_model("made")


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
    namespace = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a filesystem in a namespace of their own")
    home = tmp_path / "bentoml"
    home.mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs {home} && "$@"; echo; find {home} -type f'
    done = run_published(run, home, *namespace, "sh", "-c", script, "sh")
    assert f"cannot be written: {reason}; make room" in done.stdout, done
    assert done.stdout.rstrip().endswith("No model was changed") and not done.stderr


def test_model_that_was_stored_by_other_means_is_named(run, home):
    publish_model(run, f"made:{content_version(run)}", {}, {})
    (find_champion("made").path / "metrics.json").unlink()
    with pytest.raises(ModelerError, match="has no readable metrics.json; remove it with `bentoml models delete made:"):
        find_champion("made").read("metrics.json")
