"""The reference says what the code does: every code, field, command and metric is in it."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from hotswitch.cli.main import app
from hotswitch.config import agentfile
from hotswitch.decide.codes import MEANING, Code
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.unit
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def test_every_code_has_its_sentence() -> None:
    rows = dict(re.findall(r"^\| `(HSD\d+)` \| (.+) \|$", page("codes"), re.M))
    assert rows == {str(code): MEANING[code] for code in Code}


@pytest.mark.parametrize(
    "model",
    [agentfile.AgentFile, agentfile.Pod, agentfile.PolicySettings, agentfile.CaptureSource, agentfile.IdentitySource],
)
def test_every_field_of_the_agents_file(model: type[BaseModel]) -> None:
    text = page("agent-file")
    missing = [name for name in model.model_fields if not re.search(rf"[`. ]{name}[`.,]", text)]
    assert missing == []


def test_every_command() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback} - {"version"}
    grouped = [(group.name, group.typer_instance) for group in app.registered_groups]
    commands |= {
        f"{group} {command.name}" for group, inner in grouped if inner for command in inner.registered_commands
    }
    assert {name for name in commands if f"| `{name}" not in page("commands")} == set()


def test_every_metric() -> None:
    names = {family.name for family in Metrics().registry.collect()}
    text = page("metrics")
    assert {name for name in names if name not in text} == set()
