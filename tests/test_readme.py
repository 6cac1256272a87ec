"""README says what is so: its commands, its options and its snippet."""

import re
import shlex

import pytest
from conftest import ROOT

import pipeline
from modeler.commands.progress import Progress
from modeler.service.openapi import describe_api
from service import Arguments

FEATURE = {"name": "x", "type": "boolean", "used": True, "missing": False, "example": True}
CONTRACT = {"name": "a", "rows": 1, "features": [FEATURE], "target": {"name": "y", "classes": None}}

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"python (pipeline\.py[^`\n]*)", README)


def help_text(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        pipeline.main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_first_screen_has_the_two_commands():
    commands = [line.strip() for line in README.splitlines()[:16] if line.startswith("    ")]
    assert commands[:2] == [
        "pip install -r requirements.txt && python pipeline.py",
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


def test_ci_runs_the_test_command_of_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet -r requirements-dev.txt" in script and "\npython -m pytest" in script


def test_options_of_readme_are_those_of_help(capsys):
    shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_text(capsys))) - {"-h", "--help"}
    table = README[README.index("| option | meaning |") : README.index("Exit status:")]
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", table)) == shown


def test_settings_and_routes_of_readme_are_those_of_the_service():
    table = README[README.index("| `--arg` | meaning |") : README.index("Every request is one JSON line")]
    defaults = {name: str(field.default) for name, field in Arguments.model_fields.items()}
    assert set(re.findall(r"`([a-z_]+)=", table)) == set(defaults)
    for name, default in defaults.items():
        assert re.search(rf"\b{default}\b", table), name
    described = describe_api(CONTRACT, {"model": "a:b"}, 1, 1)["paths"]
    assert set(re.findall(r"`(?:POST )?(/[a-z/.]*)`", README)) == {*described, "/", "/docs.json"}


def test_commands_of_readme_are_those_of_help(capsys):
    named = {command.split()[1] for command in COMMANDS if len(command.split()) > 1 and command.split()[1][0] != "-"}
    listed = set(re.findall(r"^    ([a-z]+) ", help_text(capsys).partition("other commands:")[2], re.M))
    assert named - {"#"} == listed == {"history", "rollback", "verify", "reproduce"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_readme_is_accepted(command, tmp_path, monkeypatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    _, *words = shlex.split(command, comments=True)
    options = pipeline.parse_options(words)
    if options.command is None and options.data == "breast_cancer":
        options.containerize = False  # whether an engine answers here is another question
        parameters = pipeline.collect_parameters(options)
        pipeline.check_request(options, parameters["eda.ipynb"], Progress())


def test_every_module_is_in_the_map():
    for path in sorted((ROOT / "modeler").iterdir()):
        if path.suffix in (".py", ".mplstyle", ".html", ".sh") and path.name != "__init__.py":
            assert re.search(rf"`(modeler/)?{re.escape(path.name)}`", README), path.name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-serve.txt"])
def test_requirements_are_exact_name_no_index_and_install_the_package_in_place(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert ("-e ." in lines) == (name != "requirements-serve.txt")  # an image installs them before it has the package
    assert all(re.match(r"[\w.-]+==[\w.]+( ;.*)?$", line) for line in lines if line != "-e .")
    assert not re.search("://|--(extra-)?index|--find-links", (ROOT / name).read_text())
