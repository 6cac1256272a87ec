"""The pages in real Chromium, for models of two classes, of several and of values, each below a path of its own."""

import json
import re
import shutil
import time

import httpx
import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import LONG, MARKUP, PROTOTYPE, make_frame, serve, store_model
from playwright.sync_api import expect, sync_playwright

from modeler.data.rows import raw_records
from modeler.model.contract import used_features
from modeler.page.files import FOLDER, TYPES
from modeler.service.access import Access, make_key
from modeler.service.openapi import make_example
from modeler.service.predictor import Predictor

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
KINDS = ["two", "several", "values"]
LOCKED = "locked"  # the path of a service that asks for a key


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of the server, and its services by the kind of their model."""
    folder, key_file = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("keys") / "keys"
    key_file.write_text(make_key("app")[1])
    predictors = {kind: Predictor(store_model(folder / kind, kind), 10_000) for kind in KINDS}
    access = Access(key_file)
    with serve(predictors | {LOCKED: predictors["two"]}, {LOCKED: access}) as (url, services):
        services[LOCKED].access = access
        yield url, services


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # CI runs as root
        yield browser
        browser.close()


@pytest.fixture
def page(browser, site):
    """A page. A failing script, something the policy forbids or a request to elsewhere fails the test."""
    context = browser.new_context(locale="en-US", accept_downloads=True)
    context.set_default_timeout(5000)
    page, wrong, asked = context.new_page(), [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.on("request", lambda request: asked.append(request.url))
    page.asked = asked
    yield page
    context.close()
    assert wrong == []
    inside = re.compile(rf"(blob:)?{site[0]}/({'|'.join([*KINDS, LOCKED])})/|data:")
    assert [url for url in asked if not inside.match(url)] == []


def visit(page, site, kind, rest=""):
    page.goto(f"{site[0]}/{kind}/{rest}")
    return site[1][kind].predictor


def field(page, name):
    return page.get_by_label(name, exact=True)


def expect_text(locator, text):
    expect(locator).to_have_text(text)


def expect_shown(locator):
    expect(locator).to_be_visible()


def answer(predictor, row) -> dict:
    return json.loads(predictor.answer(json.dumps(row).encode()).body)["predictions"][0]


def show(given: dict) -> str:
    """The headline of an answer."""
    if "value" in given:
        return f"{float(format(given['value'], '.5g')):g} "
    share = 100 * given["probabilities"][given["label"]]
    return f"{given['label']} {share:.1f} %".replace(".0 %", " %")


AMOUNTS = {"1,234.5": 1234.5, "80,25": 80.25, "1,234": 1.234, "-1e2": -100}
GERMAN = {"1.234,5 m²": 1234.5, "80,25": 80.25, "1.234": 1234, "-1e2": -100}  # as the contract's format has it
CHANGES = [
    ("rooms", lambda input: input.fill("2"), 2),
    ("garden", lambda input: input.select_option("true"), True),
    ("heated", lambda input: input.select_option("unknown"), None),
    ("colour", lambda input: input.select_option("sea green"), "sea green"),
    ("age", lambda input: input.fill(""), None),
    ("sold", lambda input: input.fill("2024-12-31"), "2024-12-31"),
    ("seen", lambda input: input.fill("2024-12-31T23:15"), "2024-12-31T23:15Z"),
    ("seen", lambda input: input.fill(""), None),
]


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_form_opens_with_an_example_and_answers_as_one_types(page, site, kind):
    predictor = visit(page, site, kind)
    row = make_example(predictor.contract)
    expect_text(page.locator("#headline"), show(answer(predictor, row)))
    features = sorted(predictor.contract["features"], key=lambda feature: -feature["association"])
    assert page.locator(".field > label").all_inner_texts() == [
        feature["name"] for feature in features if feature["used"]
    ]
    area = f"{row['area']:g}".replace(".", "," if kind == "values" else ".")
    assert field(page, "area").input_value() == area and field(page, "sold").input_value() == row["sold"]
    assert field(page, "garden").locator("option").all_inner_texts()[1:] == (
        ["ja", "nein"] if kind == "values" else ["yes", "no"]
    )
    amounts = (GERMAN if kind == "values" else AMOUNTS).items()
    changes = [("area", lambda input, text=text: input.fill(text), value) for text, value in amounts] + CHANGES
    for name, change, value in changes:
        change(field(page, name))
        row |= {name: value}
        expect_text(page.locator("#headline"), show(answer(predictor, row)))
    bars = page.locator(".bars li")
    if kind != "values":
        given = answer(predictor, row)["probabilities"]
        assert bars.locator(".name").all_inner_texts() == list(given)
        widths = bars.locator(".fill").evaluate_all("fills => fills.map((fill) => parseFloat(fill.style.width))")
        assert widths == pytest.approx([100 * share for share in given.values()], abs=1e-3)
    assert page.locator(".threshold").count() == (kind == "two")


@pytest.mark.medium
def test_another_example_is_a_row_that_training_did_not_see(page, site):
    predictor = visit(page, site, "two")
    rows = predictor.list_examples()["rows"]
    for number in (1, 2):
        page.get_by_role("button", name="Another example").click()
        expect_text(page.locator("#origin"), f"A real row that training did not see, {number} of 32.")
        row = rows[number - 1]
        assert field(page, "area").input_value() == f"{row['area']:g}"
        expect_text(page.locator("#headline"), show(answer(predictor, row)))


def test_examples_hold_the_used_columns_alone(site):
    given = httpx.get(f"{site[0]}/two/examples").json()
    predictor = site[1]["two"].predictor
    assert given["model"] == predictor.tag and len(given["rows"]) == 32
    assert all(list(row) == [feature["name"] for feature in used_features(predictor.contract)] for row in given["rows"])


@pytest.mark.medium
def test_warnings_and_errors_stand_at_their_fields(page, site):
    predictor = visit(page, site, "two")
    row = make_example(predictor.contract)
    field(page, "area").fill("1e6")
    expect_text(
        page.locator(".unusual .note"),
        "Unusual: the training data had no value this small or large. Take the answer with care.",
    )
    field(page, "colour").select_option("another text …")
    page.get_by_label("colour, another text").fill("mauve")
    expect_text(page.locator("#headline"), show(answer(predictor, row | {"area": 1e6, "colour": "mauve"})))
    expect_text(
        page.locator(".unusual .note").nth(1),
        "Unusual: the training data never had this text. Take the answer with care.",
    )
    field(page, "area").fill("big")
    field(page, "rooms").fill("")
    expect_text(page.locator("#headline"), "No answer yet")
    assert page.locator(".wrong .note").all_inner_texts() == [
        "This is not a number.",
        "Needed: the model never saw this one missing.",
    ]
    assert field(page, "area").get_attribute("aria-invalid") == "true" and field(page, "area").input_value() == "big"
    page.get_by_role("button", name="rooms").click()
    page.keyboard.type("3")
    field(page, "area").fill("1e39")  # more than a float32 holds, which the service says
    expect_text(page.locator(".wrong .note"), re.compile("^Must be a number between -3.4e[+]38 and"))
    field(page, "area").fill("500")
    expect_text(page.locator("#headline"), show(answer(predictor, row | {"area": 500, "rooms": 3, "colour": "mauve"})))
    assert page.locator(".wrong").count() == 0


@pytest.mark.medium
def test_address_holds_the_case_and_the_server_sees_none_of_it(page, site):
    predictor = visit(page, site, "several")
    field(page, MARKUP).fill("-1.75")
    field(page, PROTOTYPE).fill("0.125")
    field(page, "heated").select_option("unknown")
    row = make_example(predictor.contract) | {MARKUP: -1.75, PROTOTYPE: 0.125, "heated": None}
    expect_text(page.locator("#headline"), show(answer(predictor, row)))
    page.wait_for_url(re.compile("__proto__=0.125.*heated=&|heated=&.*__proto__=0.125"))
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect_text(page.locator("#headline"), show(answer(predictor, row)))
    expect_text(page.locator("#origin"), "From the address of this page.")
    assert field(page, MARKUP).input_value() == "-1.75" and field(page, "heated").input_value() == ""
    assert not any("0.125" in url.partition("#")[0] for url in page.asked)
    page.goto(re.sub("rooms=[^&]*&", "", address))
    expect_text(page.locator("#origin"), "From the address of this page, which lacks rooms: there stands an example.")


@pytest.mark.medium
def test_odd_names_are_text_everywhere_and_sent_as_they_are(page, site):
    with page.expect_request("**/predict") as asked:
        predictor = visit(page, site, "several")
    (row,) = json.loads(asked.value.post_data)
    assert row == make_example(predictor.contract) and {MARKUP, PROTOTYPE, LONG} < row.keys()
    for name in (MARKUP, PROTOTYPE, LONG):
        field(page, name).fill("nonsense")
    expect_text(page.locator("#headline"), "No answer yet")
    assert set(page.locator(".wrong > label").all_inner_texts()) == {MARKUP, PROTOTYPE, LONG}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    field(page, LONG).fill("1e39")
    field(page, MARKUP).fill("1")
    field(page, PROTOTYPE).fill("1")
    expect_text(
        page.locator(".wrong .note"), re.compile("^Must be a number between")
    )  # its field is found by a shortened name


@pytest.mark.medium
def test_older_answer_never_replaces_a_newer_one(page, site):
    predictor = visit(page, site, "two")
    row, late = make_example(predictor.contract), []
    expect_text(page.locator("#headline"), show(answer(predictor, row)))
    page.route(
        "**/predict", lambda route: late.append(route) if '"rooms":1' in route.request.post_data else route.continue_()
    )
    field(page, "rooms").fill("1")
    field(page, "rooms").fill("8")
    newer = show(answer(predictor, row | {"rooms": 8}))
    assert newer != show(answer(predictor, row | {"rooms": 1}))
    expect_text(page.locator("#headline"), newer)
    late[0].fulfill(json={"model": predictor.tag, "predictions": [answer(predictor, row | {"rooms": 1})]})
    page.wait_for_timeout(100)
    expect_text(page.locator("#headline"), newer)


@pytest.mark.medium
def test_service_that_goes_away_is_asked_again_and_nothing_typed_is_lost(page, site):
    predictor = visit(page, site, "two")
    expect_shown(page.locator(".bars"))
    page.route("**/predict", lambda route: route.abort())
    field(page, "rooms").fill("2")
    expect_text(page.locator("#notice"), "The service cannot be reached. Trying again; nothing you entered is lost.")
    page.unroute("**/predict")
    page.route("**/predict", lambda route: route.fulfill(status=503, json={"error": "no model"}))
    expect_text(page.locator("#notice"), "The service says: no model. Trying again; nothing you entered is lost.")
    page.unroute("**/predict")
    expect_text(page.locator("#headline"), show(answer(predictor, make_example(predictor.contract) | {"rooms": 2})))
    assert field(page, "rooms").input_value() == "2" and page.locator("#notice").inner_text() == ""


@pytest.fixture
def exchanged(site, tmp_path):
    """A model of two classes without `age` and with a column of a long name; the service has its former one back after the test."""

    def change(frame):
        return frame.drop(columns="age").assign(**{LONG: np.arange(len(frame)) % 5})

    service = site[1]["two"]
    before = service.predictor
    yield Predictor(store_model(tmp_path / "other", "two", change), 10_000)
    service.predictor = before


@pytest.mark.medium
def test_exchange_of_the_model_is_said_and_the_fields_follow(page, site, exchanged):
    before = visit(page, site, "two")
    expect_shown(page.locator(".bars"))
    site[1]["two"].predictor = exchanged
    field(page, "rooms").fill("2")  # the body has a column that the new model does not know
    expect_text(page.locator("#notice"), f"Another model answers now: {exchanged.tag}, before {before.tag}. "
                f"What you entered is kept. New, with an example: {LONG[:99]}…. No longer used: age.")  # fmt: skip
    row = make_example(exchanged.contract) | {
        name: value for name, value in make_example(before.contract).items() if name != "age"
    }
    expect_text(page.locator("#headline"), show(answer(exchanged, row | {"rooms": 2})))
    assert field(page, LONG).count() == 1 and field(page, "age").count() == 0
    assert field(page, "rooms").input_value() == "2"


@pytest.mark.medium
def test_three_hundred_columns_are_folded_and_found(page, site):
    contract = site[1]["two"].predictor.contract
    number = next(feature for feature in contract["features"] if feature["name"] == "age")
    features = [number | {"name": f"gene {place}", "association": place / 300} for place in range(300)]
    many = {"tag": "wide:1", "contract": contract | {"features": features}, "metrics": {}}
    page.route("**/model", lambda route: route.fulfill(json=many))
    page.route(
        "**/predict",
        lambda route: route.fulfill(json={"model": "wide:1", "predictions": [{"value": 1, "warnings": []}]}),
    )
    visit(page, site, "two")
    expect_shown(field(page, "gene 299"))
    assert page.locator(".field:visible").count() == 12 and page.locator("summary").count() == 12
    page.get_by_label("Find a column").fill("gene 27")
    expect_text(page.locator("#found"), "11 of 300 columns")
    assert page.locator(".field:visible > label").all_inner_texts() == [
        f"gene {place}" for place in (279, 278, 277, 276, 275, 274, 273, 272, 271, 270, 27)
    ]


@pytest.mark.medium
def test_explanation_is_drawn_largest_first_in_words(page, site):
    predictor = site[1]["two"].predictor

    def explain(route):
        given = answer(predictor, json.loads(route.request.post_data))
        parts = {feature["name"]: 0.0 for feature in used_features(predictor.contract)}
        parts |= {"rooms": -0.05, "area": 0.3, "garden": 0.01}
        given |= {"explained": given["label"], "base": 0.4, "contributions": parts}
        route.fulfill(json={"model": predictor.tag, "predictions": [given]})

    page.route("**/explain", explain)
    visit(page, site, "two")
    expect_text(page.locator(".reasons li").first, re.compile("^area .*raises [+]30.0 points$"))
    expect_text(page.locator(".reasons li").nth(1), re.compile("^rooms .*lowers −5.0 points$"))
    label = answer(predictor, make_example(predictor.contract))["label"]
    expect_text(
        page.locator("#why .quiet").first,
        f"On average the probability of {label} is 40 %. The values of this case move it to 66 %:",
    )
    page.unroute("**/explain")
    page.route("**/explain", lambda route: route.fulfill(status=404, json={"error": "no"}))
    field(page, "rooms").fill("3")
    page.locator("#why").wait_for(state="hidden")


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_explanation_is_that_of_the_service(page, site, kind):
    predictor = visit(page, site, kind)
    given = json.loads(predictor.explain(json.dumps(make_example(predictor.contract)).encode()).body)["predictions"][0]
    parts = sorted(given["contributions"].items(), key=lambda part: -abs(part[1]))
    expect_shown(page.locator(".reasons li").first)
    for (name, by), drawn in zip(parts, page.locator(".reasons li").all(), strict=True):
        told = drawn.text_content()
        assert told.startswith(f"{name} ") and ("raises +" if by > 0 else "lowers −" if by < 0 else "unmoved") in told
    end = given["value"] if kind == "values" else given["probabilities"][given["explained"]]
    assert given["base"] + sum(given["contributions"].values()) == pytest.approx(end, abs=1e-6)


# A file.


def choose(page, content, name="table.csv"):
    page.get_by_role("button", name="A file").click()
    given = {"name": name, "mimeType": "text/csv", "buffer": content} if isinstance(content, bytes) else content
    page.get_by_label("Choose a CSV file").set_input_files(given)


def make_file(kind, separator=",", decimal=",", **settings) -> tuple[bytes, list[dict]]:
    """A table with an id, its bytes, and the rows as callers post them."""
    frame = make_frame(kind).drop(columns="price")
    rows = raw_records(frame)
    if kind == "values":
        frame["garden"] = frame["garden"].map({True: "ja", False: "nein"})
    frame.insert(0, "id", [f"=A{place}" if place % 2 else f'a "{separator}" é' for place in range(len(frame))])
    text = frame.to_csv(index=False, sep=separator, decimal=decimal if separator != "," else ".")
    return text.encode(**settings), rows


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "separator", "encoding", "told"),
    [
        ("two", ";", "cp1252", "semicolon, decimal comma, windows-1252"),
        ("several", ",", "utf-8-sig", "comma, decimal point, utf-8"),
        ("values", "\t", "utf-8", "tab, decimal comma, utf-8"),
    ],
)
def test_file_is_read_and_answered_as_the_service_does(page, site, kind, separator, encoding, told):
    content, rows = make_file(kind, separator, encoding=encoding)
    predictor = visit(page, site, kind)
    choose(page, content)
    expect_text(page.locator("#said-of-file"), "300 rows answered.")
    facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts()))
    count = len(used_features(predictor.contract))
    assert facts == {
        "File": "table.csv, 300 rows",
        "Written with": told,
        "Columns": f"{count} of the {count} that the model uses",
        "Not used": "id",
    }
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == "table-answers.csv"
    decimal = "," if separator != "," else "."
    given = pd.read_csv(download.value.path(), sep=separator, decimal=decimal, keep_default_na=False)
    expected = json.loads(predictor.answer(json.dumps(rows).encode()).body)["predictions"]
    if kind == "values":
        assert given["value"].tolist() == [answer["value"] for answer in expected]
    else:
        assert given["label"].tolist() == [answer["label"] for answer in expected]
        for label in predictor.contract["target"]["classes"]:
            assert given[f"probability:{label}"].tolist() == [answer["probabilities"][label] for answer in expected]
    assert given["id"].tolist()[:2] == [f'a "{separator}" é', "'=A1"]  # no formula for a spreadsheet
    assert page.locator("tbody tr").count() == 200
    page.get_by_role("button", name="area").click()
    page.get_by_role("button", name="area").click()
    place = page.locator("th").all_inner_texts().index("area") + 1
    shown = [float(text.replace(",", ".")) for text in page.locator(f"td:nth-child({place})").all_inner_texts()]
    assert shown == sorted((row["area"] for row in rows), reverse=True)[:200]
    assert page.locator("th[aria-sort=descending]").count() == 1


@pytest.mark.medium
def test_faults_of_a_file_are_told_by_row_and_column(page, site):
    head = "area,rooms,garden,heated,colour,sold,seen,age\n"
    good = "500,3,True,,red,2024-02-03,2024-02-03 10:00,40\n"
    bad = "much,3,True,,red,2024-02-30,,40\n" + "500,,yes,,red,2024-02-03,,40\n" + "500,3,True\n" + "\n" + good
    predictor = visit(page, site, "two")
    choose(page, (head + good + bad).encode())
    expect_text(page.locator("#said-of-file"), "2 rows answered. 3 rows without an answer.")
    told = page.locator("#faults li").all_inner_texts()
    assert [line.split(":")[0] for line in told] == [
        "Row 5", "Row 3, area is much", "Row 3, sold is 2024-02-30", "Row 4, rooms is empty", "Row 4, garden is yes"
    ]  # fmt: skip
    assert "must be a number; in training" in told[1] and "has 3 cells, the first row 8" in told[0]
    given = answer(predictor, {"area": 500, "rooms": 3, "garden": True, "heated": None, "colour": "red",
                               "sold": "2024-02-03", "seen": "2024-02-03T10:00:00Z", "age": 40})  # fmt: skip
    assert page.locator("tbody tr").nth(4).locator("td").all_inner_texts()[:2] == ["7", given["label"]]
    choose(page, b"area,rooms\n1,2\n")
    expect_text(page.locator("#said-of-file"), re.compile("^The file lacks 6 columns that the model needs: garden, "))


@pytest.mark.medium
def test_file_of_another_kind_gets_one_sentence(page, site, tmp_path):
    visit(page, site, "two")
    choose(page, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    expect_text(
        page.locator("#said-of-file"), "This is not a text file. Save the table as CSV, in UTF-8, and choose that file."
    )
    with open(tmp_path / "large.csv", "wb") as file:
        file.truncate(200 * 10**6)
    choose(page, tmp_path / "large.csv")
    expect_text(
        page.locator("#said-of-file"),
        "This file has 200 MB; the page reads up to 20 MB. Cut it in parts, or use python pipeline.py score.",
    )
    choose(page, b"")
    expect_text(page.locator("#said-of-file"), re.compile("^This file has no rows"))
    choose(page, b'area,rooms\n"1,2\n')
    expect_text(page.locator("#said-of-file"), "The quote that begins in row 2 never ends.")


@pytest.mark.medium
def test_large_file_goes_in_parts_that_shrink_and_may_be_cancelled(page, site, monkeypatch):
    predictor = visit(page, site, "two")
    monkeypatch.setattr(predictor.reader, "max_rows", 200)
    content, rows = make_file("two", ";")
    head, _, body = content.partition(b"\n")
    sizes, held = [], []
    expect_shown(page.locator(".bars"))
    page.on(
        "request",
        lambda asked: sizes.append(len(json.loads(asked.post_data)["area"])) if "predict" in asked.url else None,
    )
    choose(page, head + b"\n" + 3 * body)
    expect_text(page.locator("#said-of-file"), "900 rows answered.")
    assert sizes == [500, 250, 125, 125, 125, 125, 125, 125, 125, 25]
    page.route("**/predict", lambda route: held.append(route))
    choose(page, head + b"\n" + 3 * body)
    expect_text(page.locator("#count"), "0 of 900 rows")
    page.get_by_role("button", name="Cancel").click()
    expect_text(page.locator("#said-of-file"), "Cancelled. Nothing of this file is kept.")
    assert page.locator("#results table").count() == 0 and not page.locator("#progress").is_visible()


@pytest.mark.medium
def test_exchange_of_the_model_stops_a_file(page, site, exchanged):
    visit(page, site, "two")
    expect_shown(page.locator(".bars"))
    site[1]["two"].predictor = exchanged
    choose(page, make_file("two", ";")[0])
    expect_text(
        page.locator("#said-of-file"),
        "Another model answers now. Choose the file again, so that one model answers all of it.",
    )


@pytest.mark.medium
def test_dropped_file_is_read(page, site):
    visit(page, site, "two")
    expect_shown(page.locator(".bars"))
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.items.add(new File(["area,rooms\\n1,2\\n"], "dropped.csv"));
      document.querySelector("h1").dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
    }""")
    expect_text(page.locator("dd").first, "dropped.csv, 1 row")
    expect_shown(page.locator("#file"))


# A service that asks for a key.


@pytest.fixture
def key(site):
    """A key of the service that asks for one, the only one now."""
    return exchange_key(site)


def exchange_key(site) -> str:
    access = site[1][LOCKED].access
    key, line = make_key("app")
    access.file.write_text(line)
    access.load()
    return key


def enter(page, key):
    page.locator("#key").fill(key)
    page.get_by_role("button", name="Go on").click()


@pytest.mark.medium
def test_page_asks_for_a_key_and_keeps_it_for_the_tab(page, site, key):
    visit(page, site, LOCKED)
    expect_text(page.locator("dialog label"), "The service asks for a key:")
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("Escape")
    expect_text(page.locator("dialog label"), "The service asks for a key:")
    enter(page, "nonsense ü")
    expect_text(page.locator("dialog label"), "The service does not know this key. Another one:")
    enter(page, f" {key}\u200b")
    predictor = site[1][LOCKED].predictor
    expect_text(page.locator("#headline"), show(answer(predictor, make_example(predictor.contract))))
    page.reload()
    expect_shown(page.locator(".bars"))
    assert page.locator("dialog").count() == 0
    visit(page, site, "two")  # another service of this origin does not get the key
    expect_shown(page.locator(".bars"))
    with page.expect_request("**/predict") as asked:
        field(page, "rooms").fill("2")
    assert "authorization" not in asked.value.headers
    other = page.context.new_page()
    visit(other, site, LOCKED)
    expect_shown(other.locator("#key"))


@pytest.mark.medium
def test_key_that_is_withdrawn_is_asked_for_anew_and_nothing_typed_is_lost(page, site, key):
    predictor = visit(page, site, LOCKED)
    enter(page, key)
    expect_shown(page.locator(".bars"))
    key = exchange_key(site)
    field(page, "rooms").fill("2")
    expect_text(page.locator("dialog label"), "The service does not know this key. Another one:")
    enter(page, key)
    expect_text(page.locator("#headline"), show(answer(predictor, make_example(predictor.contract) | {"rooms": 2})))
    assert field(page, "rooms").input_value() == "2"


@pytest.mark.medium
def test_links_and_the_page_for_programmers_have_the_key_too(page, site, key):
    predictor = visit(page, site, LOCKED, "docs")
    enter(page, key)
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Execute", exact=True).click()
    expect_text(page.locator(".live-responses-table .response .response-col_status"), re.compile("^200"))
    page.get_by_role("link", name="The model as JSON").click()
    assert json.loads(page.locator("body").inner_text())["tag"] == predictor.tag
    (cookie,) = page.context.cookies(page.url)
    assert cookie["path"] == f"/{LOCKED}/model" and cookie["sameSite"] == "Strict"
    assert cookie["expires"] <= time.time() + 10 and page.context.cookies(f"{site[0]}/{LOCKED}/predict") == []


# All pages.


SETTLE = """Promise.all(document.getAnimations().filter(one => one instanceof CSSTransition)
    .map(one => one.finished.catch(() => null))).then(() => null)"""


def check_page(page, width: int):
    """Nothing scrolls sideways, and axe-core finds nothing, once no color is on its way to another."""
    page.evaluate(SETTLE)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


@pytest.mark.medium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(page, site, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    visit(page, site, "several")
    field(page, "area").fill("1e6")
    expect_shown(page.locator(".unusual"))
    check_page(page, width)
    field(page, LONG).fill("x")
    expect_shown(page.locator(".wrong"))
    lines = make_file("several")[0].splitlines(keepends=True)[:9]
    choose(page, b"".join(lines).replace(b",612.5,", b",much,"))
    expect_shown(page.locator("#faults li"))
    expect_shown(page.locator("table"))
    check_page(page, width)
    page.goto(f"{site[0]}/two/docs")
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Execute", exact=True).click()
    expect_shown(page.locator(".live-responses-table"))
    check_page(page, width)
    assert page.locator("nav a[aria-current]").count() == 1


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_card_is_read_by_everybody_on_any_screen(page, site, kind, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    visit(page, site, kind, "card")
    check_page(page, width)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_card_on_paper_lacks_nothing_but_its_links(page, site, kind):
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
    visit(page, site, kind, "card")
    read = page.locator("main").inner_text()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("main").inner_text() == read and not page.locator("nav").is_visible()
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert colors == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    cut = """[...document.querySelectorAll("main, main *")].filter((element) => {
      const { width, height, right } = element.getBoundingClientRect(), style = getComputedStyle(element);
      return !width || !height || right > innerWidth || (style.overflow !== "visible" && element.scrollWidth > element.clientWidth);
    }).map((element) => element.outerHTML.slice(0, 100))"""
    assert page.evaluate(cut) == []


@pytest.mark.medium
def test_keyboard_reaches_everything_and_focus_is_seen(page, site):
    visit(page, site, "two")
    expect_shown(page.locator(".bars"))
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "[document.activeElement.id || document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
    names = [name for name, _ in reached]
    assert names[:9] == [
        "Ask",
        "Model card",
        "The data",
        "The training",
        "For programmers",
        "show-case",
        "show-file",
        "another",
        "value-0",
    ]
    assert {style for _, style in reached} == {"solid"}
    page.keyboard.press("Shift+Tab")
    page.locator("#show-file").press("Enter")
    expect_shown(page.locator("#chosen"))


def test_pages_are_sent_with_a_strict_policy_and_kept_by_the_browser(site):
    for path, kind in (
        ("", "text/html"),
        ("docs", "text/html"),
        ("page/page.js", "text/javascript"),
        ("page/page.css", "text/css"),
    ):
        given = httpx.get(f"{site[0]}/two/{path}")
        assert given.status_code == 200 and given.headers["content-type"] == f"{kind}; charset=utf-8"
        policy = given.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'") and "unsafe" not in policy
        assert given.headers["x-content-type-options"] == "nosniff"
        again = httpx.get(f"{site[0]}/two/{path}", headers={"if-none-match": given.headers["etag"]})
        assert again.status_code == 304 and again.content == b""
    assert (
        httpx.get(f"{site[0]}/two/page/files.py").status_code
        == httpx.get(f"{site[0]}/two/page/../files.py").status_code
        == 404
    )


def test_files_of_the_pages_are_small_and_hold_no_script_or_style_in_the_markup():
    files = [path for path in FOLDER.iterdir() if path.suffix in TYPES]
    assert sum(path.stat().st_size for path in files) < 60_000
    for path in files:
        text = path.read_text("utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|eval\(|https?://(?!www.w3.org/2000/svg)|//cdn", text), (
            path.name
        )
        if path.suffix == ".html":
            assert not re.search(r"<style| style=| on[a-z]+=|<script(?![^>]* src=)|(src|href)=\"/", text), path.name
