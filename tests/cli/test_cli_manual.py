"""The manual is made from the command line: every command, argument and option, with what it says of itself."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
import yaml

from neurocompile.cli.common import app

ROOT = Path(__file__).parents[2]


def test_every_command_and_option_is_in_the_manual() -> None:
    path = ROOT / "tools" / "commands.py"
    if not path.is_file():
        pytest.skip("tools are no part of an install")
    spec = importlib.util.spec_from_file_location("commands", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.reference()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 20
    for name, command in commands.items():
        part = text.split(f"## neurocompile {name}\n", 1)[1].split("\n## ", 1)[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                line = re.search(rf"^- `{re.escape(parameter.opts[0])}`.*: (.*)$", part, re.M)
                assert line and len(line[1]) > 3, f"{name} {parameter.opts[0]} says nothing"


def test_citation_and_release_name_this_version() -> None:
    citation, release = ROOT / "CITATION.cff", ROOT / ".github" / "workflows" / "release.yml"
    if not citation.is_file():
        pytest.skip("they are no part of an install")
    cited = yaml.safe_load(citation.read_text())
    assert cited["version"] == version("neurocompile") and cited["cff-version"] == "1.2.0"
    jobs = yaml.safe_load(release.read_text())["jobs"]
    assert jobs["publish"]["needs"] == ["build", "test"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12"]
