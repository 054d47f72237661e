"""The program `hotswitch`. What a controller runs in a pod by exec starts at once; everything else is the command line.

`order` and `truth` are on the way from a fault to traffic, on machines that may have little CPU time left just then.
All that the command line imports would be most of what they cost: a tenth is left without. Nor does an agent, which
stays, keep in memory what only reads words.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hotswitch.agent.keep import BAD_SETTINGS, keep
from hotswitch.cli.ask import DEFAULT_SOCKET, AgentError, ask


def main() -> None:
    words = sys.argv[1:]
    if words[:1] in (["order"], ["truth"]) and (len(words) == 1 or (len(words) == 3 and words[1] == "--socket")):
        sys.exit(quick(words))
    if words == ["helper"]:  # what keeps it running should not weigh as much as it does
        sys.exit(keep((sys.executable, "-m", "hotswitch.cli.start", "helper", "--once")))
    if words in (["agent", "--node"], ["agent", "--pod"]):
        sys.exit(keep((sys.executable, "-m", "hotswitch.cli.start", *words, "--once")))
    if words in (["agent", "--node", "--once"], ["agent", "--pod", "--once"]):
        sys.exit(guard_here(words[1]))
    if words in (["agent", "--node", "--restore-all"], ["uninstall-check"]):
        sys.exit(take_out(remove=len(words) > 1))
    if words[:2] == ["agent", "--config"] and len(words) == 3:
        sys.exit(guard(Path(words[2])))
    from hotswitch.cli.main import app  # heavy

    app()


def quick(words: Sequence[str]) -> int:
    """`order` or `truth`; the exit code. The same as cli.helper does for people who ask for --help."""
    socket = Path(words[2] if len(words) == 3 else os.environ.get("HOTSWITCH_SOCKET", DEFAULT_SOCKET))
    request = {"verb": words[0]}
    try:
        if words[0] == "order":
            request["order"] = json.load(sys.stdin)
        print(json.dumps(ask(socket, request)))
    except ValueError as failure:
        print(f"hotswitch: standard input: not JSON: {failure}", file=sys.stderr)
        return 1
    except AgentError as failure:
        print(f"hotswitch: {failure}", file=sys.stderr)
        return 1
    return 0


def guard(config: Path) -> int:
    """The agent, until SIGTERM; the exit code. The same as cli.main does for people who ask for --check or --help."""
    from hotswitch.agent.main import run
    from hotswitch.config.told import ConfigError

    try:
        run(config)
    except (ConfigError, OSError) as failure:
        print(f"hotswitch: {failure}", file=sys.stderr)
        return 1
    return 0


def here(where: str, *, restore_all: bool) -> NoReturn:
    """As the words say it, for who asked in another order of words."""
    if restore_all:
        sys.exit(take_out(remove=True))
    sys.exit(guard_here(where))


def guard_here(where: str) -> int:
    """The agent of a node or of a pod, told by its environment, until SIGTERM; the exit code."""
    from hotswitch.cluster.failure import ConnectError
    from hotswitch.config.told import ConfigError

    try:
        _run_here(where)
    except (ConfigError, ConnectError, OSError) as failure:
        print(f"hotswitch: {failure}", file=sys.stderr)
        return BAD_SETTINGS if isinstance(failure, ConfigError) else 1
    return 0


def take_out(*, remove: bool) -> int:
    """Hotswitch out of all pods of the node; the exit code: 0, nothing is left."""
    from hotswitch.agent.node import removal

    proc = Path(os.environ.get("HOTSWITCH_PROC", "/proc"))
    try:
        looked = removal.look(proc, remove=remove)
    except OSError as failure:
        print(f"hotswitch: {failure}", file=sys.stderr)
        return 1
    print("\n".join(removal.report(looked)))
    return 0 if removal.clean(looked) else 1


def _run_here(where: str) -> None:
    if where == "--node":
        from hotswitch.agent.node import main as node
        from hotswitch.agent.node import settings

        node.run(settings.from_environment())
    else:
        from hotswitch.agent.helper import go_first_of_all
        from hotswitch.agent.main import serve
        from hotswitch.agent.pod import agent
        from hotswitch.agent.pod import settings as told

        made = agent.made(told.from_environment())
        go_first_of_all()
        serve(made)


if __name__ == "__main__":
    main()
