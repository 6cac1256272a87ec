"""The model card: all that a run wrote, shown as text, and of a person's words those about this model."""

import base64
import hashlib
import json
import re

import bs4
import pytest
from conftest import Serving

from modeler.gate.card import keep_notes, write_card
from modeler.model.contract import read_json, write_json
from modeler.model.stored import find_champion
from modeler.service.body import RequestError
from modeler.service.pages import write_policy
from modeler.service.predictor import Predictor

ODD = ["<script>alert(1)</script>", "__proto__", "x" * 500, "</style><style>body{}", "{{ 7 * 7 }}"]
EVENT = {"when": "2026-11-25T19:18:31+00:00", "user": "<b>ada</b>", "host": "build", "run": None}


def read_card(folder, event=EVENT, served=False):
    """The card of a folder, parsed, after it was written."""
    write_card(folder, event, "made:0123456789abcdef", served)
    return bs4.BeautifulSoup((folder / "card.html").read_bytes(), "html.parser")


def list_cells(card, label: str) -> list[list[str]]:
    """The rows of a table, by its region's label."""
    rows = card.find(attrs={"aria-label": label}).tbody.find_all("tr")
    return [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows]


@pytest.fixture(scope="module")
def served(retrained, tmp_path_factory):
    with Serving(retrained[0], tmp_path_factory.mktemp("serve") / "log") as serving:
        yield serving


def test_card_is_served_and_may_load_nothing(served, retrained):
    status, headers, body = served.ask("/card")
    card, policy = bs4.BeautifulSoup(body, "html.parser"), headers["content-security-policy"]
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    style = card.style.string.encode()
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy
    assert len(card.find_all("style")) == 1 and not card.find_all(["script", "img"]) and not card.find_all(style=True)
    links = [link["href"] for link in card.nav.find_all("a")]
    assert links == ["./", "card", "notebooks/eda", "notebooks/train", "docs"]
    assert all(served.ask(f"/{link}")[0] == 200 for link in links if "notebooks" in link)


def test_card_tells_what_the_run_wrote(retrained):
    project, result = retrained
    run, stored = project.runs[0], project.store / "models" / result["model"].replace(":", "/")
    contract, verdict = read_json(run / "contract.json"), read_json(run / "verdict.json")
    history = project.retrain("history", "--json")
    cards = [bs4.BeautifulSoup((folder / "card.html").read_bytes(), "html.parser") for folder in (run, stored)]
    for card in cards:
        scores = {row[0]: row[1:] for row in list_cells(card, "Scores")}
        low, high = verdict["intervals"]["accuracy"]
        assert scores["accuracy"] == [f"{result['metrics']['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"]
        assert [row[0] for row in list_cells(card, "Scores by class")] == contract["target"]["classes"]
        assert [row[::2] for row in list_cells(card, "The gate's checks")] == [
            [check["name"], check["sentence"]] for check in verdict["checks"]
        ]
        rise = read_json(run / "importance.json")["rise"]
        used = {row[0]: row for row in list_cells(card, "Columns it uses")}
        assert list(used) == sorted(rise, key=rise.get, reverse=True)
        assert used["mean radius"][2] == "6.981 to 28.11" and len(used["mean radius"]) == 6
        dropped = [[f["name"], f["reason"]] for f in contract["features"] if not f["used"]]
        assert sorted(row[::2] for row in list_cells(card, "Columns that were dropped")) == sorted(dropped)
        text = " ".join(card.get_text().split())
        for told in (result["model"], read_json(run / "provenance.json")["data"]["sha256"], "scikit-learn ", "skops "):
            assert told in text
        assert "Nobody has written down what this model is for" in text
        (event,) = json.loads(history.stdout)
        assert f"Promoted on {event['when'][:10]} at {event['when'][11:16]} UTC by {event['user']} from the run {run.name}" in text
    assert [link["href"] for link in cards[0].nav.find_all("a")] == ["eda.html", "train.html"]


def change(run, contract=None, **files):
    """Change the JSON files of a run."""
    for name, changed in {"contract": contract or {}, **files}.items():
        write_json(run / f"{name}.json", read_json(run / f"{name}.json") | changed)


def test_odd_names_are_shown_as_text(run):
    features = read_json(run / "contract.json")["features"][:5]
    for feature, name in zip(features, ODD, strict=True):
        feature["name"] = name
    features += [
        {"name": "colour", "type": "category", "used": True, "association": 0.1, "reason": None, "missing": True}
        | {"categories": [f"<i>{number}</i>" for number in range(25)], "example": "<i>1</i>"},
        {"name": "sold", "type": "date", "used": True, "association": 0.2, "reason": None, "missing": False}
        | {"time": False, "format": "%Y-%m-%d", "min": "2024-01-01", "max": "2025-01-01", "example": "2024-01-01"},
        {"name": "note", "type": "category", "used": False, "association": None, "reason": "<b>", "missing": True},
    ]
    target = {"name": ODD[0], "classes": [ODD[0], 2, True]}
    change(run, {"features": features, "target": target, "own_columns": ["<u>"]})
    change(run, verdict={"warnings": [{"kind": "leak", "columns": [], "message": ODD[0]}], "rows_without_target": 3})
    (run / "importance.json").unlink()
    card = read_card(run)
    assert not card.find_all(["script", "b", "i", "u"]) and len(card.find_all("style")) == 1 and "49" not in card.p.get_text()
    columns = {row[0]: row[1:] for row in list_cells(card, "Columns it uses")}
    assert {*ODD, "colour", "sold"} == {*columns} and len(columns["sold"]) == 4
    assert columns["colour"][1].startswith("<i>0</i>, <i>1</i>") and columns["colour"][1].endswith("<i>19</i> and 5 more")
    assert columns["sold"][1] == "2024-01-01 to 2025-01-01"
    assert [row[0] for row in list_cells(card, "Scores by class")] == [ODD[0], "2", "true"]
    assert "by <b>ada</b>." in card.get_text() and ODD[0] in card.main.ul.get_text()


def test_rejected_regression_with_an_interval_has_its_card(run):
    target = {"name": "price", "classes": None, "interval": 0.9}
    check = {"name": "floor of r2", "passed": False, "value": 0.1, "threshold": 0.5, "sentence": "r2 misses it"}
    scores = {"r2": None, "mae": 1234.5678, "rmse": 0.5}
    split = {"by": None, "time": "sold", "boundary": "2025-01-01", "share": 0.2}
    change(run, {"task": "regression", "target": target, "split": split})
    change(run, verdict={"verdict": "rejected", "checks": [check], "intervals": {"mae": [1200.0, 1300.0]}})
    write_json(run / "metrics.json", scores)
    card = read_card(run, None)
    text = " ".join(card.get_text().split())
    assert "Rejected by the gate, not in use." in text and "an interval that should hold 90 % of the true values" in text
    assert "seen nothing from 2025-01-01 on by sold" in text and "Estimators compared" not in text
    assert list_cells(card, "Scores") == [["r2", "undefined", "–"], ["mae", "1235", "1200 to 1300"], ["rmse", "0.500", "–"]]
    assert list_cells(card, "The gate's checks") == [["floor of r2", "failed", "r2 misses it"]]


def test_words_about_another_model_are_not_shown(run, tmp_path):
    keep_notes(tmp_path, run, "made")  # there is no card.md
    assert not (run / "card.md").exists()
    words = "Preface\n\n# orders\n\n## Purpose\n\nCalls.\n\n# made #\n\n## Limits\n\n<script>x</script>\n\n[a](javascript:x) **not** that\n"
    (tmp_path / "card.md").write_bytes(words.encode() + b"\xff\n")
    keep_notes(tmp_path, run, "other")
    assert not (run / "card.md").exists()
    keep_notes(tmp_path, run, "made")
    card = read_card(run)
    text = card.main.get_text()
    assert "Calls." not in text and "Preface" not in text and "Nobody has written" not in text
    assert [h.get_text() for h in card.find_all("h2")][0] == "Limits" and card.strong.get_text() == "not"
    assert not card.find_all("script") and "<script>x</script>" in text
    assert not [link for link in card.find_all("a") if link["href"].startswith("javascript")]


def test_card_can_be_read_by_everybody(run):
    card = read_card(run, served=True)
    assert card.html["lang"] == "en" and len(card.find_all("h1")) == 1 and card.main and card.nav["aria-label"]
    levels = [int(heading.name[1]) for heading in card.find_all(re.compile("h[1-6]"))]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    for table in card.find_all("table"):
        assert all(head.get("scope") in ("col", "row") for head in table.find_all("th"))
        assert table.parent["role"] == "region" and table.parent["tabindex"] == "0"
    identities = [tag["id"] for tag in card.find_all(id=True)]
    assert {link["href"][1:] for link in card.find_all("a") if link["href"][0] == "#"} <= {*identities}
    for scheme in re.findall(r":root \{([^}]*--ink[^}]*)\}", card.style.string):
        colors = dict(re.findall(r"--(\w+): (#\w+);", scheme))
        assert all(measure_contrast(colors[name], colors["paper"]) >= 4.5 for name in ("ink", "soft", "link", "bad"))


def measure_contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2, contrast ratio)."""
    lights = []
    for color in (one, other):
        digits = color[1:] if len(color) == 7 else "".join(digit * 2 for digit in color[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_policy_of_a_notebook_lets_its_scripts_run_and_that_of_a_card_does_not():
    assert "script-src 'unsafe-inline'" in write_policy("eda", b"")
    assert "script-src" not in write_policy("card", b"<style>a</style>")


def test_model_of_before_has_no_card_and_says_so(retrained, home):
    project, result = retrained
    home.parent.joinpath("bentoml").symlink_to(project.store)
    champion = find_champion("breast_cancer")
    predictor = Predictor.__new__(Predictor)
    predictor.tag, predictor._model = champion.tag, type(champion)(champion.tag, home / "nothing")
    with pytest.raises(RequestError, match=f"{champion.tag} has no readable card.html; a warning at /model may say") as refusal:
        predictor.read_page("card")
    assert refusal.value.status == 404


def test_notebook_of_ones_own_may_note_another_comparison_or_none(run):
    metrics = read_json(run / "metrics.json")
    metrics["cv"] = {"score": "roc_auc", "mean": 0.9, "std": 0.1, "folds": 5}
    write_json(run / "metrics.json", metrics)
    assert "Chosen:" not in read_card(run).main.get_text()
