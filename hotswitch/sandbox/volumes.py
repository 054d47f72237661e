"""A container's volumes under /run, for a process that starts: a mount namespace of its own, where /run has them too.

The machine's /run is there as it is, but for what the volumes take the place of; nothing is made on the machine. Names
of network namespaces are left out: held here, they would outlive their pods.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hotswitch.sandbox.cluster.stage import MS_BIND, MS_MOVE, RUN, bind, inside_run, leave_names, mount, own_mounts


def give(volumes: Mapping[str, str]) -> None:
    """`volumes`: target under /run or /var/run -> source. Of the calling process, which is root. Raises OSError."""
    if not volumes:
        return
    own_mounts()
    leave_names()
    targets = {inside_run(target): source for target, source in volumes.items()}
    run = Path(tempfile.mkdtemp())
    mount("tmpfs", run, "tmpfs", 0, "mode=755")
    tops = {target.parts[0] for target in targets if target is not None}
    for entry in os.scandir(RUN):
        if entry.name not in tops:
            _show(Path(entry.path), run / entry.name)
    for target, source in targets.items():
        if target is None:
            raise ValueError(f"volumes: {source} is not for a place under {RUN}")
        (run / target).mkdir(parents=True)
        bind(source, run / target)
    mount(str(run), RUN, "", MS_MOVE)
    run.rmdir()


def _show(there: Path, here: Path) -> None:
    if there.is_symlink():
        here.symlink_to(os.readlink(there))
        return
    if there.is_dir():
        here.mkdir()
    else:
        here.touch()
    mount(str(there), here, "", MS_BIND)
