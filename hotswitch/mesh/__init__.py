"""Istio's configuration as values: pods, the policies that select them, and the mesh that holds both. No I/O."""

from hotswitch.mesh.pod import AppPort, MeshPod
from hotswitch.mesh.view import MeshConfig, MeshView

__all__ = ["AppPort", "MeshConfig", "MeshPod", "MeshView"]
