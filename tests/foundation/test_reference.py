"""The reference says what the code does: every code, field, command and metric is in it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hotswitch.api.adopt import ADOPT_ANNOTATIONS
from hotswitch.api.crd import crd
from hotswitch.api.knobs import KNOBS, NO_KNOBS, Bearer
from hotswitch.api.service import SERVICE_ANNOTATIONS
from hotswitch.cli.main import app
from hotswitch.config import agentfile
from hotswitch.config.told import Strict
from hotswitch.controller.service_words import FOREIGN, NOT_HEARD
from hotswitch.decide.codes import MEANING, Code
from hotswitch.decide.endpoints import active_standby, adopt
from hotswitch.endpoints.istio.refusal import Refusal
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.unit
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def test_every_code_has_its_sentence() -> None:
    rows = dict(re.findall(r"^\| `(HSD\d+)` \| (.+) \|$", page("codes"), re.M))
    assert rows == {str(code): MEANING[code] for code in Code}


def test_every_code_of_endpoints() -> None:
    rows = set(re.findall(r"^\| `(HSE\d+)` \|", page("endpoints"), re.M))
    assert rows == {*map(str, active_standby.Word), *map(str, adopt.Word), *map(str, Refusal), FOREIGN, NOT_HEARD}


def test_every_annotation_of_a_service() -> None:
    missing = [name for name in (*SERVICE_ANNOTATIONS, *ADOPT_ANNOTATIONS) if f"`{name}`" not in page("endpoints")]
    assert missing == []


@pytest.mark.parametrize(
    "model",
    [
        agentfile.AgentFile,
        agentfile.Pod,
        agentfile.PolicySettings,
        agentfile.CaptureSource,
        agentfile.IdentitySource,
        agentfile.NodeAccountSource,
    ],
)
def test_every_field_of_the_agents_file(model: type[Strict]) -> None:
    text = page("agent-file")
    missing = [name for name in model.__struct_fields__ if not re.search(rf"[`. ]{name}[`.,]", text)]
    assert missing == []


def fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of everything that a policy can say; a bound's two ends are told of once."""
    schema = schema.get("items", schema)
    inner = schema.get("properties")
    if not inner or "min" in inner or path.endswith("Ref"):
        yield path
        return
    for name, part in inner.items():
        yield from fields(part, f"{path}.{name}".lstrip(".") + ("[]" if "properties" in part.get("items", {}) else ""))


def test_every_field_of_a_policy() -> None:
    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    text = page("policy")
    assert [field for field in fields(spec) if f"`{field}`" not in text] == []


def test_every_annotation() -> None:
    text = page("annotations")
    missing = [name for bearer in Bearer for name in (*KNOBS[bearer], *NO_KNOBS) if f"`{name}`" not in text]
    assert missing == []


def test_every_command() -> None:
    commands = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    grouped = [(group.name, group.typer_instance) for group in app.registered_groups]
    commands |= {
        f"{group} {command.name or command.callback.__name__}"
        for group, inner in grouped
        if inner
        for command in inner.registered_commands
        if command.callback
    }
    assert {name for name in commands if f"| `{name}" not in page("commands")} == set()


def test_every_option_of_the_controller() -> None:
    options = {each for param in get_command(app).commands["controller"].params for each in param.opts}  # type: ignore[attr-defined]
    assert [each for each in sorted(options) if f"`{each}`" not in page("commands").split("## controller")[1]] == []


def test_every_metric() -> None:
    families = [*Metrics().registry.collect(), *ControllerMetrics().registry.collect()]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    shown = set(re.findall(r"^\| `(hotswitch_\w+)` \|", page("metrics"), re.M))
    assert names == shown
