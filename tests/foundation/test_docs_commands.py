"""Every command line of hotswitch that a page, a message or a manifest shows is one that the program takes.

What is shown as a line to type must be complete; what is named in passing, between backticks, must at least exist with
the options that it is named with. Nothing is run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hotswitch.cli.cluster import app as mesh
from hotswitch.cli.main import app

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("istio-addon/*.md")])
OTHERS = sorted([*ROOT.glob("hotswitch/**/*.py"), *ROOT.glob("manifests/**/*.yaml"), ROOT / "Dockerfile"])
TYPED = re.compile(r"^(?: {4,}|\$ )(.*(?:^|[ \[/])hotswitch[ ,].*)$", re.MULTILINE)
NAMED = re.compile(r"`((?:kubectl )?hotswitch [a-z][^`\n]*)(?<!\.{3})`")  # what ends with dots is a message
CELL = re.compile(r"^\| ((?:`[a-z][^`]+`(?:, )?)+) \|", re.MULTILINE)
ENDS = re.compile(r"^(?:[|;&]+|\d?>.*)$")  # of a command in a line of a shell
BEFORE = ("", "$", "sudo", "--", "&&", "|", ";")
PROGRAM = typer.main.get_command(app)
PLUGIN = typer.main.get_command(mesh)


@dataclass(frozen=True)
class Shown:
    """`words`: after the program's name. `whole`: it is meant to be typed as it stands."""

    words: tuple[str, ...]
    plugin: bool
    whole: bool

    def __str__(self) -> str:
        return " ".join(("kubectl hotswitch" if self.plugin else "hotswitch", *self.words))


def commands(line: str, *, whole: bool) -> Iterator[Shown]:
    """Of one line of a shell, or of a list in YAML (`command: [hotswitch, keeper, ...]`)."""
    listed = re.search(r"\[(hotswitch, [^\]]*)\]", line)
    tokens = shlex.split(listed[1].replace(",", " ") if listed else line.replace(";", " ; "), comments=True)
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        plugin = before == "kubectl"
        if token.rpartition("/")[2] != "hotswitch" or not (plugin or before in BEFORE):
            continue
        rest = tokens[place + 1 :]
        end = next((at for at, word in enumerate(rest) if ENDS.match(word)), len(rest))
        yield Shown(tuple(rest[:end]), plugin, whole)


def problem(shown: Shown) -> str:
    """What is wrong with it, as the program would say; empty: nothing."""
    command: Any = PLUGIN if shown.plugin else PROGRAM
    words = list(shown.words)
    while (inner := getattr(command, "commands", None)) is not None:
        if not words or words[0] not in inner:
            return "" if not words and not shown.whole else f"no such command: {shown}"
        command = inner[words.pop(0)]
    context = command.context_class(command)
    try:
        given, _, _ = command.make_parser(context).parse_args(words)
    except Exception as refused:
        return f"{shown}: {refused}"
    needed = [each for each in command.params if each.required and not each.envvar and not given.get(each.name)]
    return f"{shown}: missing {', '.join(each.name for each in needed)}" if shown.whole and needed else ""


def shown_in(path: Path) -> list[Shown]:
    text = path.read_text()
    found = [each for line in NAMED.findall(text) for each in commands(line, whole=False)]
    if path.suffix == ".md":
        lines = TYPED.findall(re.sub(r"\\\n\s*", "", text))
        found += [each for line in lines for each in commands(line, whole=True)]
    if path.name == "commands.md":
        cells = [cell for row in CELL.findall(text.split("\n## ")[0]) for cell in re.findall("`([^`]+)`", row)]
        found += [each for cell in cells for each in commands(f"hotswitch {cell}", whole=True)]
    return found


def problems(shown: Sequence[Shown]) -> list[str]:
    return [sentence for each in shown if (sentence := problem(each))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page):
    assert problems(shown_in(page)) == []


def test_commands_that_the_program_and_its_manifests_name_exist():
    assert {str(path): found for path in OTHERS if (found := problems(shown_in(path)))} == {}


def test_commands_are_found_where_they_are_shown():
    found = {str(each) for page in PAGES for each in shown_in(page)}
    assert {
        "hotswitch agent --config agent.yaml",
        "kubectl hotswitch switchover db --to db-1 -n shop",
        "hotswitch drill shop/web-0 --for 5s",  # by kubectl exec
        "hotswitch keeper --ports 5432 --roles http://hotswitch-roles.hotswitch-system:8081 --serve 8109",
        "hotswitch mesh bypass POD --for 30m --reason WHY",
    } <= found


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("hotswitch explain shop/web-0", "no such command"),
        ("kubectl hotswitch capture clean", "no such command"),
        ("hotswitch status --watch", "No such option"),
        ("kubectl hotswitch bypass shop/web-0 --for 30m", "missing reason"),
        ("kubectl hotswitch status -n shop | less", ""),
    ],
)
def test_a_command_that_does_not_exist_is_told(line, wrong):
    (shown,) = commands(line, whole=True)
    assert problem(shown).startswith(wrong) if not wrong else wrong in problem(shown)
