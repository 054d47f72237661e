"""`hotswitch capture`: what Istio captures in a pod: read from a manifest, written as rules, looked up in the kernel.

Nothing here changes anything; what does, `clean` and `apply`, is in capture_clean. What cannot be understood is one
sentence with field and value, and exit code 1 (S4.3a).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hotswitch.capture import effective, report
from hotswitch.capture.fields import SpecError
from hotswitch.capture.inspect import inspect as look
from hotswitch.capture.istio_commands import IstioCommand
from hotswitch.capture.istio_commands import commands as commands_of
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.capture.render import render as rules_of
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.capture.version import IstioVersion
from hotswitch.cli import capture_clean
from hotswitch.cli.show import fail
from hotswitch.kernel.command import CommandFailed

app = typer.Typer(help="Istio's capture rules: read, written, found, taken out and put back.", no_args_is_help=True)


class Form(StrEnum):
    """How rules are written; which iptables loads them makes no difference to their text."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


_BACKENDS = {Form.IPTABLES: Backend.IPTABLES_NFT, Form.NFTABLES: Backend.NFTABLES}
Manifest = Annotated[Path, typer.Argument(metavar="FILE", help="YAML of a Pod or any workload; - is standard input.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Config = Annotated[Path, typer.Option("--config", help="Settings as `capture spec` prints them; - is standard input.")]


@contextmanager
def _plainly() -> Iterator[None]:
    from hotswitch.cli.documents import FileError  # YAML: not for the other commands

    try:
        yield
    except (SpecError, FileError, CommandFailed) as refused:
        raise fail(" ".join(str(refused).split())) from refused
    except OSError as failure:
        raise fail(f"{failure.filename or 'the namespace'}: {failure.strerror or failure}") from failure


@app.command("spec")
def spec_(
    file: Manifest,
    ipv6: Annotated[bool | None, typer.Option("--ipv6/--no-ipv6", help="Else told from status.podIPs.")] = None,
    dns_servers: Annotated[
        list[str] | None, typer.Option("--dns-server", metavar="ADDRESS", help="Of the pod's resolv.conf; repeat.")
    ] = None,
) -> None:
    """Print what Istio captures in the pod, as JSON: flags and env of istio-iptables.

    Of several documents the first pod or workload with a sidecar counts; which one is said on standard error.
    """
    with _plainly():
        from hotswitch.cli.documents import workload

        chosen = workload(file, lambda pod: spec_from_pod(pod, ipv6=ipv6, dns_servers=dns_servers or ()))
    if chosen.others:
        typer.echo(f"hotswitch: {chosen.name}, not the {chosen.others} other documents", err=True)
    typer.echo(json.dumps(effective.write(chosen.spec), indent=2))


@app.command("render")
def render(
    config: Config,
    backend: Annotated[Form | None, typer.Option("--backend", help="Default: what the settings ask for.")] = None,
) -> None:
    """Print the rules that Istio writes for these settings: restore text of IPv4, then IPv6, or one nft transaction."""
    with _plainly():
        from hotswitch.cli.documents import settings

        spec = settings(config)
    typer.echo("".join(rules_of(spec, _BACKENDS[backend] if backend else None)), nl=False)


@app.command("commands")
def commands_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Manifest or settings; - is standard input.")],
    version: Annotated[str, typer.Option("--istio-version", help="The pod's release, like 1.26.3.")],
    backend: Annotated[
        Backend | None, typer.Option("--backend", help="Under what the rules are known to be, if they are.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the release's own commands for the pod, and what its clean-up will leave. Runs nothing.

    They are for a container of Istio's image in the pod's network namespace, with NET_ADMIN and NET_RAW.
    """
    with _plainly():
        from hotswitch.cli.documents import either

        found = commands_of(either(file), IstioVersion.of(version), backend)
    every = [command for command in (found.setup, *found.cleanups) if command]
    lines = [line for command in every for line in _command_lines(command)] or ["Istio runs nothing in this pod"]
    typer.echo(json.dumps([command.as_json() for command in every], indent=2) if as_json else "\n".join(lines))


def _command_lines(command: IstioCommand) -> list[str]:
    title = "leaves" if command.does == "clean up" else "beware"
    return [f"{command.does}:", f"    {command}", f"  {title}:", *(f"    {text}" for text in command.leaves)]


@app.command("inspect")
def inspect_(
    netns: Annotated[
        str | None, typer.Option("--netns", help="Path or name of the namespace; this one if not given.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="Manifest or settings that the rules have to match.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the kernel has of Istio's rules, and change nothing by asking.

    Exit codes: 0 captured; 1 it could not be looked; 2 wrong usage; 3 absent; 4 partial, or not as --spec has it; 5 the
    gate is open.
    """
    with _plainly():
        wanted = _wanted(spec)
        found = look(_path(netns), wanted)
    answer = report.Report.of(found, wanted)
    typer.echo(json.dumps(answer.as_json(), indent=2) if as_json else "\n".join(answer.lines()))
    raise typer.Exit(answer.exit_code)


def _wanted(file: Path | None) -> CaptureSpec | None:
    from hotswitch.cli.documents import either

    return None if file is None else either(file)


def _path(netns: str | None) -> str | None:
    """`ip netns` keeps names there."""
    return netns if netns is None or "/" in netns else f"/run/netns/{netns}"


capture_clean.add_to(app)
