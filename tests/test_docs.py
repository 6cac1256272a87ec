"""README and docs/ say what is so: their commands, options, settings, links and map."""

import re
import shlex

import click
import pytest
from conftest import PAGES, ROOT, read_page

import pipeline
from modeler.commands.progress import Progress
from modeler.commands.retrain import check_request
from modeler.service.openapi import describe_api
from service import Arguments

FEATURE = {"name": "x", "type": "boolean", "used": True, "missing": False, "example": True}
CONTRACT = {"name": "a", "rows": 1, "features": [FEATURE], "target": {"name": "y", "classes": None}}
README = read_page("README.md")
ALL = "\n".join(map(read_page, PAGES))
COMMANDS = sorted(set(re.findall(r"python (pipeline\.py[^`\n]*)", ALL)))


def help_text(capsys, *words):
    assert pipeline.main([*words, "--help"]) == 0
    return capsys.readouterr().out


def parse(words):
    """The command and its options."""
    group = pipeline.command_line
    context = group.make_context("pipeline.py", list(words))
    if not context._protected_args:
        return None, context.params
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    return name, command.make_context(name, rest, parent=context).params


def test_readme_is_short_and_begins_with_the_two_commands():
    assert len(README.splitlines()) <= 150
    commands = [line.strip() for line in README.splitlines()[:16] if line.startswith("    ")]
    assert commands[:2] == [
        "pip install -r requirements.txt && python pipeline.py",
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


def test_ci_runs_the_test_command_of_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet -r requirements-dev.txt" in script and "\npython -m pytest" in script


def test_options_of_the_table_are_those_of_help(capsys):
    shown = set(re.findall(r"^ +(?:(-\w), )?(--[a-z][a-z-]*)", help_text(capsys), re.M))
    shown = {option for pair in shown for option in pair if option} - {"-h", "--help"}
    text = read_page("docs/operate.md")
    table = text[text.index("| option | meaning |") : text.index("| exit status | meaning |")]
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", table)) == shown


def test_settings_and_routes_of_the_table_are_those_of_the_service():
    text = read_page("docs/serve.md")
    table = text[text.index("| `--arg` | meaning |") : text.index("Every request is one JSON line")]
    defaults = {name: str(field.default) for name, field in Arguments.model_fields.items()}
    assert set(re.findall(r"`([a-z_]+)=", table)) == set(defaults)
    for name, default in defaults.items():
        assert re.search(rf"\b{default}\b", table), name
    described = describe_api(CONTRACT, {"model": "a:b"}, 1, 1)["paths"]
    assert set(re.findall(r"`(?:POST )?(/[a-z/.]*)`", ALL)) == {*described, "/", "/docs.json"}


def test_commands_of_the_pages_are_those_of_help(capsys):
    named = {command.split()[1] for command in COMMANDS if len(command.split()) > 1 and command.split()[1][0] != "-"}
    listed = set(re.findall(r"^  ([a-z]+) ", help_text(capsys).partition("Commands:")[2].partition("Examples:")[0], re.M))
    assert named - {"#"} == listed == {"history", "rollback", "verify", "reproduce"}


@pytest.mark.parametrize("name", pipeline.command_line.commands)
def test_help_of_every_command_has_an_example_that_is_accepted(name, capsys):
    text = help_text(capsys, name)
    (example,) = re.findall(r"Example: python pipeline\.py (.*)", text)
    assert parse(shlex.split(example))[0] == name
    for param in pipeline.command_line.commands[name].params:
        assert not isinstance(param, click.Option) or param.help, param.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_pages_is_accepted(command, tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    _, *words = shlex.split(command, comments=True)
    name, params = parse(words)
    if name is None and params["data"] == "breast_cancer":
        params["containerize"] = False  # whether an engine answers here is another question
        check_request(SimpleNamespace(**params), pipeline.NOTEBOOKS, Progress())


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", read_page(page)):
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file
        assert path.is_file(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


def test_every_page_is_linked_from_readme():
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(re.findall(r"\]\(([^)#]+)\)", README))


def test_every_module_is_in_the_map():
    page = read_page("docs/architecture.md")
    for path in sorted((ROOT / "modeler").rglob("*")):
        if path.suffix in (".py", ".mplstyle", ".html", ".sh") and path.name != "__init__.py":
            room = path.relative_to(ROOT / "modeler").parent.as_posix()
            section = page.partition(f"## `modeler/{room}/`\n")[2].partition("\n## ")[0] if room != "." else page
            assert f"`{path.name}`" in section, path


def test_no_page_names_a_path_of_a_machine():
    assert not re.search(r"(/home/|/Users/|/root/|/work/|/tmp/)\w", ALL)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-serve.txt"])
def test_requirements_are_exact_name_no_index_and_install_the_package_in_place(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert ("-e ." in lines) == (name != "requirements-serve.txt")  # an image installs them before it has the package
    assert all(re.match(r"[\w.-]+==[\w.]+( ;.*)?$", line) for line in lines if line != "-e .")
    assert not re.search("://|--(extra-)?index|--find-links", (ROOT / name).read_text())
