"""`hotswitch capture clean` and `apply`: Istio's capture taken out of a namespace, and put back (S4.3b, S4.5).

Both say what they run, before (--dry-run) and after (I8). Both leave the machine's own namespace alone unless told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hotswitch.capture import apply as applying
from hotswitch.capture import clean as cleaning
from hotswitch.capture.fields import SpecError
from hotswitch.capture.inspect import inspect
from hotswitch.capture.reading import read
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.cli.duration import seconds
from hotswitch.cli.show import fail
from hotswitch.kernel.command import Command, CommandFailed

WRONG_USAGE, IN_THE_WAY = 2, 4
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21

Netns = Annotated[str | None, typer.Option("--netns", help="Path or name of the pod's network namespace.")]
Here = Annotated[
    bool, typer.Option("--this-namespace", help="Mean the namespace that this command runs in, and no other.")
]
Spec = Annotated[Path | None, typer.Option("--spec", metavar="FILE", help="Manifest or settings; - is standard input.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be run; change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `hotswitch capture`."""
    app.command("clean")(clean)
    app.command("apply")(apply)


def clean(
    netns: Netns = None,
    spec: Spec = None,
    drain: Annotated[
        str, typer.Option("--drain", metavar="TIME", help="Wait at most so long for connections through the proxy.")
    ] = "30s",
    dry_run: DryRun = False,
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Take everything of Istio's out of a namespace, by what is there; whatever is not Istio's stays.

    --spec settles what could be Istio's or somebody else's. What still passes the proxy after --drain is cut.
    Exit codes: 0 nothing of Istio's is left; 1 something is, or it could not be done; 2 wrong usage.
    """
    with _plainly():
        where, wanted, drain_s = _place(netns, here), _wanted(spec), _drain(drain)
        _need_rights()
        if dry_run:
            todo = cleaning.plan(read(where), wanted, where)
            _say(as_json, "would run", todo.commands, todo.stays)
            return
        before = inspect(where).fingerprint
        done = cleaning.clean(where, wanted, drain_s=drain_s)
        after = inspect(where).fingerprint
    notes = [f"{done.cut} connections through the proxy did not end in {drain} and were cut"] if done.cut else []
    _say(as_json, "ran", done.done, (*notes, *done.stays), before=before, after=after)


def apply(
    spec: Annotated[Path, typer.Option("--spec", metavar="FILE", help="Manifest or settings; - is standard input.")],
    netns: Netns = None,
    backend: Annotated[Backend | None, typer.Option("--backend", help="Default: what the settings ask for.")] = None,
    dry_run: DryRun = False,
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Put the capture of the settings into a namespace exactly as Istio would write it; nothing if it is there.

    Exit codes: 0 captured as asked; 1 it could not be done, and nothing of it is left; 2 wrong usage; 4 other rules are
    in the way, and nothing was changed.
    """
    with _plainly():
        where, wanted = _place(netns, here), _wanted(spec)
        assert wanted is not None
        _need_rights()
        if not dry_run:
            before = inspect(where).fingerprint
            done = applying.apply(where, wanted, backend)
            _say(as_json, "ran", done, (), before=before, after=inspect(where).fingerprint)
            return
        todo = applying.plan(where, wanted, backend)
        if todo.in_the_way:
            raise applying.ApplyRefused("; ".join(dict.fromkeys(todo.in_the_way)))
        _say(as_json, "would run", todo.commands, ())


@contextmanager
def _plainly() -> Iterator[None]:
    from hotswitch.cli.documents import FileError  # YAML: not for the other commands

    try:
        yield
    except applying.ApplyRefused as refused:
        typer.echo(f"hotswitch: {refused}", err=True)
        raise typer.Exit(IN_THE_WAY) from refused
    except (SpecError, FileError, CommandFailed, cleaning.CleanError, applying.ApplyFailed) as failure:
        raise fail(str(failure)) from failure
    except OSError as failure:
        raise fail(f"{failure.filename or 'the namespace'}: {failure.strerror or failure}") from failure


def _wanted(file: Path | None) -> CaptureSpec | None:
    from hotswitch.cli.documents import either

    return None if file is None else either(file)


def _drain(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as failure:
        raise typer.BadParameter(str(failure), param_hint="--drain") from failure


def _place(netns: str | None, here: bool) -> str | None:
    """The namespace that is meant; None: this one. Its own namespace it touches only when it is told to: on a node
    that is the machine's."""
    if here:
        if netns is not None:
            raise typer.BadParameter("either --netns or --this-namespace", param_hint="--netns")
        return None
    path = netns if netns is None or "/" in netns else f"/run/netns/{netns}"
    if path is None or any(_same(path, own) for own in ("/proc/self/ns/net", "/proc/1/ns/net")):
        message = "--netns names the pod's namespace; for the one that this command runs in, say --this-namespace"
        raise typer.BadParameter(message, param_hint="--netns")
    return path


def _same(path: str, own: str) -> bool:
    there = os.stat(path)
    try:
        mine = os.stat(own)
    except OSError:  # another user's first process
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _need_rights() -> None:
    with open("/proc/self/status") as status:
        held = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    if not all(held >> bit & 1 for bit in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN)):
        raise fail("this needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")


def _say(as_json: bool, how: str, commands: Iterable[Command], notes: Iterable[str], **rules: str) -> None:
    """`rules`: Istio's, as text, before and after (I8); only in JSON, they are long."""
    ran, stays = [str(command) for command in commands], list(notes)
    if as_json:
        answer = {"changed": bool(ran) and how == "ran", "commands": ran, "notes": stays, **rules}
        typer.echo(json.dumps(answer, indent=2))
        return
    for text in ran or ["nothing to do"]:
        typer.echo(f"{how}: {text}" if ran else text)
    for note in stays:
        typer.echo(f"note: {note}")
