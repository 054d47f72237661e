"""What the documentation says can be done: its links lead somewhere, its examples load, its commands exist."""

import os
import re
from pathlib import Path

import pytest
import yaml

from hotswitch.api.knobs import Bearer, read
from hotswitch.api.names import KIND
from hotswitch.capture.gate_table import GateScope, script
from hotswitch.config.agentfile import PolicySettings, parse
from hotswitch.config.objects import policy_object
from hotswitch.config.scope import scoped
from hotswitch.config.settings import ROOT_NAMESPACE
from hotswitch.config.told import parse_as
from hotswitch.kernel.command import Command, run

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?!https?:)([^)#]+)")
PLACE = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)#([^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


def blocks(page, language):
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


EXAMPLES = [(page, body) for page in PAGES for body in blocks(page, "yaml")]


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page):
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def anchors(page):
    """As GitHub makes them of headings."""
    heads = [re.sub(r"[^\w\- ]", "", head.lower()) for head in HEADING.findall(page.read_text())]
    return {head.replace(" ", "-") for head in heads}


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(page):
    places = [((page.parent / path) if path else page, place) for path, place in PLACE.findall(page.read_text())]
    assert [(str(path), place) for path, place in places if place not in anchors(path)] == []


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(page):
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?:^ *\$? ?|`)make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.unit
@pytest.mark.parametrize(("page", "body"), EXAMPLES, ids=[str(page.relative_to(ROOT)) for page, _ in EXAMPLES])
def test_examples_of_files_and_policies_are_accepted(page, body):
    content = yaml.safe_load(body)
    if content.get("kind") == KIND:
        checked = scoped(policy_object(content), ROOT_NAMESPACE)
        assert checked.problems == ()
    elif "annotations" in content.get("metadata", {}):
        assert read(Bearer.POD, {}, content["metadata"]["annotations"]).problems == ()
    elif "pods" in content:
        assert parse(content).pods
    else:
        parse_as(PolicySettings, content["policy"], str(page))


@pytest.mark.unit
def test_there_are_examples_to_check():
    assert {page.name for page, _ in EXAMPLES} >= {"README.md", "protect-a-namespace.md", "policy.md"}


@pytest.mark.netns
def test_removal_in_a_hurry_removes_it():
    text = (ROOT / "docs/how-to/remove-it-in-a-hurry.md").read_text()
    (words,) = re.findall(r"^ +nsenter --net=/proc/PID/ns/net (nft delete .*)$", text, re.MULTILINE)
    name = f"hf-hurry-{os.getpid()}"
    run(Command(("ip", "netns", "add", name)), check=True)
    try:
        netns = f"/run/netns/{name}"
        run(Command(("nft", "-f", "-"), netns=netns, stdin=script(GateScope())), check=True)
        run(Command(tuple(words.split()), netns=netns), check=True)
        assert run(Command(("nft", "list", "ruleset"), netns=netns), check=True).stdout == ""
    finally:
        run(Command(("ip", "netns", "delete", name)))
