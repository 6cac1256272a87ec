"""What test_store.py runs in processes of its own: writers that are killed, that compete, and that find a disk full.

Run as `python store_faults.py kills|prunes|full_prune|competition|full_disk RUN...` with BENTOML_HOME set; an AssertionError is a failure.
"""

import errno
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import bentoml

from modeler import ModelerError
from modeler.commands.progress import Progress
from modeler.commands.prune import choose_old, delete_old
from modeler.model.stored import content_version, find_champion, list_versions, load_model, store_home
from modeler.store.lock import check_writable
from modeler.store.publish import note_rejection, publish_model, read_history, roll_back

RUNS = [Path(word) for word in sys.argv[2:]]
EXPECTED = ["--readmit promotes it", "is the champion already", "no older champion to roll back to"]


def change_once(rng: random.Random) -> None:
    """Publish, roll back or reject one of the runs."""
    run, chance = rng.choice(RUNS), rng.random()
    tag = f"made:{content_version(run)}"
    try:
        if chance < 0.6:
            publish_model(run, tag, {"run": run.name}, {}, verdict={}, readmit=rng.random() < 0.5)
        elif chance < 0.9:
            to = rng.choice([None, *list_versions("made")])
            roll_back("made", to, lambda model: None)
        else:
            note_rejection(tag, run, {}, ["a reason"])
    except ModelerError as error:
        if not any(text in str(error) for text in EXPECTED):
            raise


def prune_once() -> None:
    """Delete all versions but the champion and the one before."""
    choice = choose_old(store_home() / "runs", "made", 0)
    delete_old(store_home() / "runs", "made", 0, choice, [], Progress())


def change_or_prune(rng: random.Random) -> None:
    if rng.random() < 0.5:
        change_once(rng)
    else:
        prune_once()


def check_store() -> int:
    """Hold the store to its promises with BentoML's own functions; how many events there are."""
    for model in bentoml.models.list():
        assert content_version(Path(model.path)) == model.tag.version, f"{model.tag} is half a model"
    events = check_events()
    moves = [event for event in events if event["event"] != "rejected"]
    assert moves[-1]["after"] == load_model("made").version == find_champion("made").version
    return len(events)


def check_events() -> list[dict]:
    """Each event once, and each from where the one before it led."""
    events = read_history("made")
    assert len({event["id"] for event in events}) == len(events)
    moves = [event for event in events if event["event"] != "rejected"]
    assert [event["before"] for event in moves] == [None, *(event["after"] for event in moves[:-1])]
    return events


def publish_first() -> None:
    publish_model(RUNS[0], f"made:{content_version(RUNS[0])}", {"run": RUNS[0].name}, {})


def start(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)  # work that ends has failed
    return child


def prunes() -> None:
    """The same, of a writer that prunes as often as it changes anything else."""
    kills(change=change_or_prune)
    prune_once()
    assert len(list_versions("made")) <= 2
    check_store()


def full_prune() -> None:
    """Prune where there is room for nothing more."""
    for run in RUNS:
        publish_model(run, f"made:{content_version(run)}", {"run": run.name}, {})
    with open(store_home() / "filler", "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    prune_once()
    assert len(list_versions("made")) == 2
    check_store()


def kills(times: int = 120, change=change_once) -> None:
    """Kill a writer at a random moment, again and again; the store is whole each time."""
    publish_first()
    started = time.monotonic()
    publish_model(RUNS[1], f"made:{content_version(RUNS[1])}", {"run": RUNS[1].name}, {})
    most = min(0.3, 3 * (time.monotonic() - started))  # seconds a writer lives at most
    rng, left_over, pending = random.Random(0), 0, 0

    def work():
        own = random.Random()
        while True:
            change(own)

    for _ in range(times):
        child = start(work)
        time.sleep(rng.uniform(0, most))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the writer failed before it was killed"
        left_over += any((store_home() / "staging").iterdir())
        pending += (store_home() / "models" / ".made.pending.json").exists()
        noted = check_store()
    change_once(rng)
    check_writable()
    check_store()
    assert not any((store_home() / "staging").iterdir()) and left_over and pending
    assert noted > 5
    print(f"{times} kills, {left_over} with a staging folder left, {pending} with an event pending, {noted} events")


def competition(seconds: float = 10) -> None:
    """Two writers and two readers at once; no read fails."""
    publish_first()
    end = time.monotonic() + seconds

    def repeat(once):
        done = 0
        while time.monotonic() < end:
            once()
            done += 1
            time.sleep(0.002)
        os._exit(0 if done > 20 else 2)

    def read():
        load_model("made").read("metrics.json")
        bentoml.models.list()
        check_events()

    own = [random.Random(seed) for seed in range(2)]
    works = [lambda: repeat(read)] * 2 + [lambda rng=rng: repeat(lambda: change_once(rng)) for rng in own]
    children = [start(work) for work in works]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0, 0]
    print(check_store(), "events")


def full_disk(most: int = 40) -> None:
    """Leave room for ever more pages of 4096 bytes, so that each step once finds none; the store is whole each time."""
    publish_first()
    filler, failed, number = store_home() / "filler", 0, 0
    for room in range(most):
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(max(0, file.tell() - 4096 * room))
        for change in (
            lambda: roll_back("made", None, lambda model: None),
            lambda: publish_model(run, tag, {"run": run.name}, {}, readmit=True),
            lambda: note_rejection(tag, run, {}, []),
        ):
            number += 1
            run = RUNS[number % len(RUNS)]
            tag = f"made:{content_version(run)}"
            before = find_champion("made")
            try:
                change()
            except ModelerError as error:
                told = str(error)
                assert "No space left on device; make room" in told or any(text in told for text in EXPECTED), told
                failed += "No space" in told
                assert find_champion("made") == before
            check_store()
        filler.unlink()
        check_store()
    assert 0 < failed < most * 3
    publish_model(RUNS[0], f"made:{content_version(RUNS[0])}", {}, {}, readmit=True)
    check_store()
    print(f"{failed} of {number} changes found no room, {len(read_history('made'))} events")


if __name__ == "__main__":
    {"kills": kills, "prunes": prunes, "full_prune": full_prune, "competition": competition, "full_disk": full_disk}[sys.argv[1]]()
