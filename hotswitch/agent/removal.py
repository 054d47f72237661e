"""Taking hotswitch out of the namespaces of a file again: tables deleted, rescue ended, nothing of ours left (I4)."""

from __future__ import annotations

from pathlib import Path

from hotswitch.capture.gate_choice import open_gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.config.agentfile import AgentFile, Pod
from hotswitch.rescue.service import Rescue


def present(settings: AgentFile) -> list[Pod]:
    """Pods whose namespace exists; of the others nothing can be left."""
    return [pod for pod in settings.pods if Path(pod.netns).exists()]


def plan(settings: AgentFile) -> list[str]:
    """What `remove` would do, as commands and sentences."""
    lines: list[str] = []
    for pod in present(settings):
        gate = open_gate(pod.netns, GateScope())
        lines += map(str, gate.remove_commands())
        gate.close()
    return [*lines, f"end the rescue Envoy of {settings.rescue.directory}, if it runs"]


async def remove(settings: AgentFile) -> list[str]:
    """Do it; a sentence for each thing done. Raises CommandFailed or OSError at the first that cannot be done; what was
    removed until then stays removed, and it may be called again."""
    done = []
    for pod in present(settings):
        gate = open_gate(pod.netns, GateScope())
        try:
            gate.remove()
        finally:
            gate.close()
        done.append(f"{pod.ref}: {gate.name} is gone")
    if await _end_rescue(settings):
        done.append("the rescue Envoy has ended")
    return done


async def _end_rescue(settings: AgentFile) -> bool:
    if not settings.rescue.directory.exists():
        return False
    rescue = Rescue(settings.rescue.directory, settings.rescue.envoy)
    if not rescue.program.runs():
        return False
    await rescue.process.start()
    await rescue.process.stop()
    return True
