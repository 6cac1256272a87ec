"""README and docs/ say what is so: their commands, options, settings, modules and links."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PAGES as NAMES
from conftest import ROOT, read_page
from test_rooms import MAY_IMPORT, SERVED

import pipeline
from modeler.commands.progress import Progress
from modeler.commands.retrain import check_request, collect_parameters
from modeler.service.openapi import describe_api
from service import Arguments

FEATURE = {"name": "x", "type": "boolean", "used": True, "missing": False, "example": True}
CONTRACT = {"name": "a", "rows": 1, "features": [FEATURE], "target": {"name": "y", "classes": None}}

README = read_page("README.md")
PAGES = {name: read_page(name) for name in NAMES}
COMMANDS = sorted({command for page in PAGES.values() for command in re.findall(r"python (pipeline\.py[^`\n]*)", page)})
OPTION = r"(?<![\w-])--?[a-z][a-z-]*"
ROUTE = r"`(?:POST )?(/[a-z/.]*)`"
MODULES = {".py", ".mplstyle", ".html", ".sh", ".css", ".js", ".svg"}
COMMAND_NAMES = {"history", "rollback", "verify", "reproduce", "sweep", "score", "monitor", "key", "runs", "prune", "compare"}


def show_help(capsys, *words) -> str:
    """What `--help` prints, of the retrain or of another command."""
    assert pipeline.main([*words, "--help"]) == 0
    return capsys.readouterr().out


def parse_command(monkeypatch, words) -> tuple[str | None, SimpleNamespace]:
    """The name of a command, None for the retrain, and its options; an error where the command line refuses them."""
    taken = []

    def take(name):
        return lambda *_, **options: taken.append((name, SimpleNamespace(**options)))

    monkeypatch.setattr(pipeline, "retrain", lambda options: taken.append((None, options)))
    for name, command in pipeline.command_line.commands.items():
        monkeypatch.setattr(command, "callback", take(name))
    pipeline.command_line.main(words, prog_name="pipeline.py", standalone_mode=False)
    (parsed,) = taken
    return parsed


def list_options(capsys, *words) -> set[str]:
    return set(re.findall(OPTION, show_help(capsys, *words))) - {"-h", "--help"}


def find_section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.M | re.S)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def list_rows(section: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def list_anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page; what stands in fenced code is none."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_read_in_one_sitting():
    assert README.count("\n") <= 150


def test_first_screen_has_the_two_commands():
    commands = [line.strip() for line in README.splitlines()[:16] if line.startswith("    ")]
    assert commands[:2] == [
        "pip install -r requirements.txt && python pipeline.py",
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


def test_ci_runs_the_test_command_of_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet -r requirements-dev.txt" in script and "\npython -m pytest" in script


def test_options_of_the_retrain_are_those_of_help(capsys):
    rows = list_rows(find_section(PAGES["docs/operate.md"], "Retrain"))
    told = [name for row in rows for name in re.findall(r"`(--?[a-z][a-z-]*)", row[0])]
    assert sorted(told) == sorted(list_options(capsys))


@pytest.mark.parametrize("name", [None, *sorted(COMMAND_NAMES)])
def test_examples_of_help_are_accepted(name, capsys, monkeypatch):
    examples = re.findall(r"python pipeline\.py *(.*)", show_help(capsys, *filter(None, [name])))
    assert examples
    for example in examples:
        assert parse_command(monkeypatch, shlex.split(example))[0] == name


def test_options_of_the_other_commands_are_those_of_help(capsys):
    rows = list_rows(find_section(PAGES["docs/operate.md"], "The other commands"))
    told = {row[0].strip("`").split()[0]: set(re.findall(OPTION, row[1])) for row in rows}
    options, retrains = {name: list_options(capsys, name) for name in COMMAND_NAMES}, list_options(capsys)
    assert retrains < options["sweep"] and "and all of the retrain" in PAGES["docs/operate.md"]
    assert told == options | {"sweep": options["sweep"] - retrains}


def test_settings_are_those_of_the_service():
    told = {
        re.match(r"`([a-z_]+)=", name)[1]: meaning
        for name, meaning in list_rows(find_section(PAGES["docs/serve.md"], "Settings"))
    }
    defaults = {name: str(field.default) for name, field in Arguments.model_fields.items()}
    assert set(told) == set(defaults)
    for name, default in defaults.items():
        assert re.search(rf"\(default: `?{re.escape(default)}`?\)", told[name]), name


def test_routes_are_those_of_the_service():
    described = {*describe_api(CONTRACT, {"model": "a:b"}, 1, 1)["paths"], "/", "/docs", "/docs.json"}
    table = find_section(PAGES["docs/serve.md"], "Routes")
    assert {route for row in list_rows(table) for route in re.findall(ROUTE, row[0])} == described
    for name, page in PAGES.items():
        assert set(re.findall(ROUTE, page)) <= described, name


@pytest.mark.parametrize("name", ["README.md", "docs/operate.md"])
def test_commands_are_those_of_help(name, capsys):
    listed = set(re.findall(r"^  ([a-z]+)  ", show_help(capsys).partition("Commands:")[2], re.M))
    rows = list_rows(find_section(PAGES[name], "Commands" if name == "README.md" else "The other commands"))
    words = [row[0].strip("`").removeprefix("python pipeline.py").split() for row in rows]
    assert {line[0] for line in words if line} - {"bentoml"} == listed == COMMAND_NAMES


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted(command, tmp_path, monkeypatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    _, *words = shlex.split(command, comments=True)
    name, options = parse_command(monkeypatch, words)
    if name is None and options.data == "breast_cancer":
        options.containerize = False  # whether an engine answers here is another question
        check_request(options, pipeline.NOTEBOOKS, Progress())
    elif name is None:
        collect_parameters(options, Path(options.data), pipeline.NOTEBOOKS)


@pytest.mark.parametrize("name", PAGES)
def test_every_parameter_and_every_script_exists(name):
    for given in re.findall(r"-p ([a-z_]+=[\w.:-]+)", PAGES[name]):
        if given != "estimator=neural_network":  # docs/notebooks.md adds it; tests/test_tables.py trains with it
            options = SimpleNamespace(param=[given], data="breast_cancer", target="", split_by="", split_time="")
            collect_parameters(options, None, pipeline.NOTEBOOKS)
    for script in re.findall(r"python ([\w/]+\.py)", PAGES[name]):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("room", ["", *MAY_IMPORT])
def test_every_module_is_in_the_map_once(room):
    folder = ROOT / "modeler" / room
    section = find_section(PAGES["docs/architecture.md"], f"modeler/{room}/" if room else "modeler/")
    files = [
        path.name for path in folder.iterdir() if path.suffix in MODULES and (not room or path.name != "__init__.py")
    ]
    assert sorted(row[0].strip("`") for row in list_rows(section)) == sorted(files)
    assert ("Served." in section) == (room in SERVED)
    assert f"`modeler/{room}/`" in README if room else "`modeler/`" in README


def test_rooms_are_drawn_as_they_may_import():
    section = find_section(PAGES["docs/architecture.md"], "The rooms")
    told = {room.strip("`"): set(re.findall(r"`(\w+)`", may)) for room, may in list_rows(section)}
    assert told | {"commands": {*MAY_IMPORT} - {"commands"}} == MAY_IMPORT
    drawn = {room: set() for room in MAY_IMPORT}
    for room, others in re.findall(r"^ +(\w+) --> (.*)$", section, re.M):
        drawn[room] |= set(others.split(" & "))

    def reach(room):
        return drawn[room].union(*map(reach, drawn[room]))

    assert {room: reach(room) for room in MAY_IMPORT} == MAY_IMPORT


def test_every_module_named_on_the_way_exists():
    for room, file in re.findall(r"`(\w+)/(\w+\.\w+)`", PAGES["docs/architecture.md"]):
        assert (ROOT / "modeler" / room / file).is_file() or (ROOT / room / file).is_file(), f"{room}/{file}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", PAGES[name])
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.resolve().is_relative_to(ROOT) and target.is_file(), link
        assert not anchor or anchor in list_anchors(target.read_text("utf-8")), link


def test_every_page_is_linked_from_readme():
    linked = set(re.findall(r"\]\((docs/\w[\w-]*\.md)\)", README))
    assert linked == set(PAGES) - {"README.md"}


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_path_of_this_machine(name):
    assert str(ROOT) not in PAGES[name]
    assert not re.search(r"(?<![\w.:])/(root|home|work|tmp/|Users|mnt|var)\b", PAGES[name])


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-serve.txt"])
def test_requirements_are_exact_name_no_index_and_install_the_package_in_place(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert ("-e ." in lines) == (name != "requirements-serve.txt")  # an image installs them before it has the package
    assert all(re.match(r"[\w.-]+==[\w.]+( ;.*)?$", line) for line in lines if line != "-e .")
    assert not re.search("://|--(extra-)?index|--find-links", (ROOT / name).read_text())


def test_every_defence_is_tested_as_it_says():
    files = {"H": "test_hostile_requests.py", "F": "test_hostile_files.py"}
    named = re.findall(r"`(H|F|test_\w+\.py)::(\w+)`", PAGES["docs/security.md"])
    assert len(named) > 40 and all(f"`{short}` is `tests/{file}`" in PAGES["docs/security.md"] for short, file in files.items())
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / files.get(file, file)).read_text("utf-8"), test
