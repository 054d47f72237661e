"""`hotswitch agent --node`: from the environment to a running agent."""

from __future__ import annotations

from hotswitch.agent.main import serve
from hotswitch.agent.node.agent import NodeAgent
from hotswitch.agent.node.settings import NodeSettings


def run(settings: NodeSettings) -> None:
    """Until SIGTERM. Raises ConfigError, ConnectError or OSError before anything has been changed."""
    serve(NodeAgent(settings, settings.authority(settings.directory, node=settings.node)))
