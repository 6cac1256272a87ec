"""The history of a name and the rollback: each event once, and no version back that does not answer."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import alter, copy_of

import pipeline
from modeler import ModelerError
from modeler.commands.progress import Progress
from modeler.commands.publish import decide_candidate
from modeler.gate.checks import Check
from modeler.gate.judge import Judgement
from modeler.model.contract import read_json
from modeler.model.stored import content_version, find_champion, list_versions
from modeler.service.predictor import load_predictor
from modeler.store.history import announce_event, format_history, list_withdrawn, make_event
from modeler.store.lock import lock_name
from modeler.store.publish import find_withdrawal, note_rejection, publish_model, read_history, roll_back

REQUEST = SimpleNamespace(name="made", table=SimpleNamespace(left_out=0), started=0.0)
FIELDS = ["id", "when", "user", "host", "event", "version", "before", "after", "run", "metrics", "reasons"]


@pytest.fixture
def versions(home, small_runs):
    """Three versions promoted one after the other; there is a fourth run."""
    promoted = [content_version(run) for run in small_runs]
    for run, version in list(zip(small_runs, promoted))[:3]:
        publish_model(run, f"made:{version}", {"run": run.name}, {"metrics": {"accuracy": 0.9, "recall:a": 0.8}})
    return promoted


@pytest.fixture
def two_versions(retrained, tmp_path):
    """A project whose store holds two versions that answer alike, and both versions, the champion last."""
    project, result = copy_of(retrained, tmp_path / "copy"), retrained[1]
    for path in (project.store / "models").glob("*.history.jsonl"):
        path.unlink()
    run, tag = alter(shutil.copytree(result["run"], tmp_path / "run"), result["model"].partition(":")[0])
    project.publish(run, tag)
    return project, result["model"].partition(":")[2], tag.partition(":")[2]


def go_back(to=None):
    return roll_back("made", to, lambda model: None)


def champion():
    return find_champion("made").version


def write_no_card(*given, **named):
    pass


def pass_gate(run, readmit=False):
    """What the pipeline does with a candidate that passed every other check."""
    return decide_candidate(run, REQUEST, lambda champion: Judgement([], {"accuracy": 0.9}), {}, readmit, Progress(), write_no_card)


@pytest.mark.parametrize("passes", [True, False])
def test_card_that_cannot_be_made_is_a_warning_alone(home, small_runs, passes):
    def fail(*given, **named):
        raise ZeroDivisionError("of\na template")

    def judge(champion):
        return Judgement([Check("own", passes, 0.0, 0.0, "worse")], {"accuracy": 0.9})

    run = small_runs[0]
    outcome = decide_candidate(run, REQUEST, judge, {}, False, Progress(), fail)
    sentence = "there is no model card, since making it failed: ZeroDivisionError: of a template"
    warnings = [{"kind": "no card", "columns": [], "message": sentence}]
    assert outcome.verdict == ("promoted" if passes else "rejected") and outcome.judgement.warnings == warnings
    folders = [run, outcome.champion.path] if passes else [run]
    for folder in folders:
        verdict = read_json(folder / "verdict.json")
        assert verdict["verdict"] == outcome.verdict and verdict["warnings"] == warnings


# What is noted


def test_events_tell_who_when_what_from_where_to_where_and_why(versions, small_runs):
    note_rejection(f"made:{versions[3]}", small_runs[3], {"accuracy": 0.1}, ["too bad"])
    go_back()
    events = read_history("made")
    assert all(sorted(event) == sorted(FIELDS) for event in events)
    assert [event["event"] for event in events] == ["promoted"] * 3 + ["rejected", "rolled back"]
    a, b, c, d = versions
    assert [(event["before"], event["after"]) for event in events] == [(None, a), (a, b), (b, c), (c, c), (c, b)]
    assert [event["version"] for event in events] == [a, b, c, d, b]
    assert [event["run"] for event in events] == ["run0", "run1", "run2", "run3", "run1"]
    assert events[3]["metrics"] == {"accuracy": 0.1} and events[3]["reasons"] == ["too bad"]
    assert all(event["when"].endswith("+00:00") and event["user"] and event["host"] for event in events)


def test_unchanged_champion_is_no_event(versions, small_runs):
    assert pass_gate(small_runs[2]).verdict == "unchanged"
    assert len(read_history("made")) == 3


@pytest.mark.slow
def test_names_have_histories_of_their_own_and_deleted_models_keep_theirs(versions, home, small_runs):
    publish_model(small_runs[0], f"other:{versions[0]}", {}, {})
    environment = os.environ | {"BENTOML_HOME": str(home)}
    for tag in [f"made:{version}" for version in versions[:3]]:
        command = [sys.executable, "-m", "bentoml", "models", "delete", tag, "--yes"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list_versions("made") == [] and len(read_history("made")) == 3 and len(read_history("other")) == 1


def test_unfinished_last_line_is_passed_over_and_taken_out_by_the_next_event(versions, home):
    path = home / "models" / "made.history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [event["after"] for event in read_history("made")] == versions[:2]
    go_back(versions[0])
    assert [event["event"] for event in read_history("made")] == ["promoted", "promoted", "rolled back"]
    path.write_bytes(path.read_bytes()[:-1])  # a whole event without its end of line
    go_back(versions[1])
    assert [event["after"] for event in read_history("made")] == [*versions[:2], versions[0], versions[1]]


def test_line_that_is_no_event_is_named(versions, home):
    path = home / "models" / "made.history.jsonl"
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ModelerError, match="made.history.jsonl, line 1, is no event; mend that line or take it out"):
        read_history("made")


@pytest.mark.parametrize("moved", [True, False])
def test_event_of_a_killed_writer_counts_where_latest_was_moved(versions, home, tmp_path, moved):
    event = make_event("rolled back", versions[0], versions[2], versions[0], None, None, [])
    announce_event(home / "models", "made", event, tmp_path / "draft")
    if moved:
        (home / "models" / "made" / "latest").write_text(versions[0])
    expected = [*versions[:3], *([versions[0]] if moved else [])]
    assert [event["after"] for event in read_history("made")] == expected  # a reader settles nothing
    assert (home / "models" / ".made.pending.json").exists()
    go_back(versions[1])
    assert [event["after"] for event in read_history("made")] == [*expected, versions[1]]
    assert not (home / "models" / ".made.pending.json").exists()


def test_rejection_of_a_killed_writer_counts_once(versions, home, tmp_path):
    event = make_event("rejected", versions[3], versions[2], versions[2], "run3", {}, ["too bad"])
    for _ in range(2):  # killed before its line was appended, and after
        announce_event(home / "models", "made", event, tmp_path / "draft")
        assert read_history("made")[3:4] == [event]
        note_rejection(f"made:{versions[3]}", tmp_path, {}, [])
    assert [known["id"] for known in read_history("made")].count(event["id"]) == 1


# Rolling back


def test_rollback_goes_to_the_champion_before_and_passes_over_withdrawn_and_deleted_ones(versions, home, small_runs):
    a, b, c, d = versions
    assert (go_back()["after"], champion()) == (b, b)
    assert publish_model(small_runs[3], f"made:{d}", {}, {})["before"] == b
    shutil.rmtree(home / "models" / "made" / b)
    assert go_back()["after"] == a == champion()
    assert list_withdrawn(read_history("made")).keys() == {c, d}
    with pytest.raises(ModelerError, match=f"made has no older champion .* not withdrawn; --to names .*: {min(c, d)}"):
        go_back()


def test_rollback_by_name_readmits_a_withdrawn_version_and_withdraws_the_one_it_leaves(versions):
    a, b, c, _ = versions
    go_back()
    go_back(f"made:{c}")
    assert champion() == c and list_withdrawn(read_history("made")).keys() == {b}
    assert go_back()["after"] == a


@pytest.mark.parametrize(
    ("name", "to", "sentence"),
    [
        ("made", "{0}x", r"made has no version {0}x in the store \(did you mean '{0}'"),
        ("made", "zzz", "made has no version zzz in the store; there is "),
        ("made", "{2}", "made:{2} is the champion already; nothing was changed"),
        ("mad", None, r"there is no model mad in the store .* \(did you mean 'made'"),
    ],
)
def test_rollback_that_is_impossible_says_why(versions, name, to, sentence):
    with pytest.raises(ModelerError, match=sentence.format(*versions)):
        roll_back(name, to and to.format(*versions), pytest.fail)
    assert champion() == versions[2] and len(read_history("made")) == 3


def test_first_champion_cannot_be_rolled_back(home, small_runs):
    publish_model(small_runs[0], f"made:{content_version(small_runs[0])}", {}, {})
    with pytest.raises(ModelerError, match="no older champion to roll back to that is not withdrawn; retrain instead"):
        go_back()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [("model.onnx", "was changed after it was stored"), ("golden.json", "differs from its golden rows")],
)
def test_version_that_is_damaged_or_answers_otherwise_does_not_become_champion(run, home, file, sentence):
    first = content_version(run)
    publish_model(run, f"made:{first}", {}, {})
    publish_model(*alter(run), {}, {})
    path = home / "models" / "made" / first / file
    path.write_bytes(path.read_bytes().replace(b'"malignant": 0.9', b'"malignant": 0.8') + b"\n")
    before = champion()
    with pytest.raises(ModelerError, match=f"made:{first} {sentence}.*Nothing was changed; --to names another version"):
        roll_back("made", None, lambda model: load_predictor(model.tag, 100))
    assert champion() == before and len(read_history("made")) == 2


@pytest.mark.parametrize("file", ["metrics.json", "golden.json", "model.yaml"])
def test_version_that_lost_a_file_does_not_become_champion(versions, home, file):
    (home / "models" / "made" / versions[1] / file).unlink()
    with pytest.raises(ModelerError, match=f"made:{versions[1]} has no readable {file}; .* Nothing was changed; --to"):
        go_back()
    assert champion() == versions[2] and len(read_history("made")) == 3


def test_damaged_champion_is_left_by_a_rollback(versions, home):
    (home / "models" / "made" / versions[2] / "model.onnx").unlink()
    assert go_back()["after"] == versions[1] == champion()


# Withdrawn versions, in the pipeline


def test_withdrawn_version_is_rejected_until_it_is_readmitted(versions, small_runs):
    go_back()
    outcome = pass_gate(small_runs[2])
    assert (outcome.verdict, outcome.champion.version) == ("rejected", versions[1])
    (reason,) = outcome.reasons
    assert reason.startswith(f"made:{versions[2]} was rolled back from on 20") and "--readmit promotes it" in reason
    verdict = read_json(small_runs[2] / "verdict.json")
    assert (verdict["verdict"], verdict["reasons"]) == ("rejected", [reason])
    assert verdict["checks"][-1] == {
        "name": "not withdrawn", "passed": False, "value": 1.0, "threshold": 0.0, "sentence": reason,
    }  # fmt: skip
    assert [event["event"] for event in read_history("made")][-1] == "rejected"
    assert pass_gate(small_runs[2], readmit=True).verdict == "promoted"
    assert champion() == versions[2] and find_withdrawal(f"made:{versions[2]}") is None
    assert pass_gate(small_runs[2]).verdict == "unchanged"


def test_version_withdrawn_while_it_was_judged_is_not_promoted(versions, small_runs):
    go_back()
    with pytest.raises(ModelerError, match="was rolled back from on .* No model was changed"):
        publish_model(small_runs[2], f"made:{versions[2]}", {}, {})
    assert champion() == versions[1]


def test_older_version_that_is_not_withdrawn_is_promoted_again(versions, small_runs):
    assert pass_gate(small_runs[0]).verdict == "promoted"
    assert champion() == versions[0] and len(list_versions("made")) == 3
    assert read_history("made")[-1]["before"] == versions[2]


def test_promotion_past_a_damaged_champion_says_so(versions, home, small_runs):
    (home / "models" / "made" / versions[2] / "metrics.json").write_text("{")
    outcome = pass_gate(small_runs[3])
    assert outcome.verdict == "promoted"
    assert outcome.reasons == [
        f"the champion before could not be used: made:{versions[2]} has no readable metrics.json"
    ]


@pytest.mark.medium
def test_run_whose_model_could_not_be_stored_has_no_verdict(versions, small_runs, monkeypatch):
    monkeypatch.setattr("modeler.store.lock.LOCK_SECONDS", 0.1)
    with lock_name("made"), pytest.raises(ModelerError, match="the store's made is being changed by"):
        pass_gate(small_runs[3])
    assert not (small_runs[3] / "verdict.json").exists() and champion() == versions[2]
    assert pass_gate(small_runs[3]).verdict == "promoted"
    assert read_json(small_runs[3] / "verdict.json")["verdict"] == "promoted"
    assert find_champion("made").read("verdict.json")["verdict"] == "promoted"


# The commands


@pytest.mark.slow
def test_rollback_and_history_as_they_are_typed(two_versions):
    project, older, newer = two_versions
    done = project.retrain("rollback")
    assert done.returncode == 0, done.stderr
    assert f"breast_cancer:{older} is the champion again, its golden rows answered, in " in done.stdout
    assert f"withdrawn  breast_cancer:{newer}; " in done.stdout and "kill -HUP PID" in done.stdout
    assert (project.store / "models" / "breast_cancer" / "latest").read_text() == older
    events = json.loads(project.retrain("history", "--json").stdout)
    assert [(event["event"], event["before"], event["after"]) for event in events] == [
        ("promoted", older, newer), ("rolled back", newer, older),
    ]  # fmt: skip
    assert events[1]["metrics"]["accuracy"] > 0.9
    table = project.retrain("history", "breast_cancer").stdout
    assert table.index("now withdrawn") < table.index(f"rolled back  {older}") < table.index("now the champion")
    assert project.stored == sorted([f"breast_cancer:{older}", f"breast_cancer:{newer}"])
    done = project.retrain("rollback")
    assert done.returncode == 1 and "no older champion to roll back to" in done.stderr and not done.stdout
    assert project.retrain("rollback", "--to", newer).returncode == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["history", "nothing"], 1, "there is no model nothing in the store"),
        (["history", "a:b"], 2, "must be a model's name such as breast_cancer, without a version, got: a:b"),
        (["rollback", "../x"], 2, "must be a model's name such as breast_cancer"),
        (["rollback"], 1, "there is no model breast_cancer in the store"),
        (["--readmit", "rollback"], 2, "--readmit belongs to the retrain"),
    ],
)
def test_mistake_of_the_commands_is_one_sentence(home, capsys, words, status, sentence):
    assert pipeline.main(words) == status
    told = capsys.readouterr()
    assert sentence in told.err and told.err.count("\n") == 1 and not told.out
    assert not home.exists()


def test_history_of_an_unknown_name_is_an_error_in_json_too(home, capsys):
    assert pipeline.main(["history", "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)) == ["error"]


def test_history_before_the_first_event_is_empty(versions, home, capsys):
    (home / "models" / "made.history.jsonl").unlink()
    assert pipeline.main(["history", "made", "--json"]) == 0 and json.loads(capsys.readouterr().out) == []
    assert pipeline.main(["history", "made"]) == 0 and capsys.readouterr().out == "nothing was noted of made yet\n"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table_fits_the_terminal(versions, small_runs, monkeypatch, width):
    note_rejection(f"made:{versions[3]}", small_runs[3], {"accuracy": 0.1}, ["a long reason " * 20])
    monkeypatch.setenv("COLUMNS", str(width))
    table = format_history(read_history("made"), champion())
    assert max(map(len, table.splitlines())) <= width
    assert table.count("a long") + table.count("reason") >= 20 and table.count("accuracy 0.900") == 3
    assert table.count("now the champion") == 1 and "recall:a" not in table


@pytest.mark.parametrize("passes", [True, False])
def test_candidate_whose_champion_was_replaced_meanwhile_is_judged_again(versions, small_runs, passes):
    judged = []

    def judge(champion):
        judged.append(champion.version)
        if len(judged) == 1:
            go_back()
        return Judgement([Check("again", passes or len(judged) == 1, 0.0, 0.0, "worse")], {"accuracy": 0.9})

    outcome = decide_candidate(small_runs[3], REQUEST, judge, {}, False, Progress(), write_no_card)
    assert judged == [versions[2], versions[1]]
    assert outcome.verdict == ("promoted" if passes else "rejected")
    assert outcome.champion.version == champion() == versions[3 if passes else 1]
    verdict = read_json(small_runs[3] / "verdict.json")
    assert (verdict["verdict"], verdict["reasons"]) == (outcome.verdict, [] if passes else ["worse"])
    assert [check["name"] for check in verdict["checks"]] == ["again", "not withdrawn"]
    assert read_history("made")[-1]["event"] == outcome.verdict
