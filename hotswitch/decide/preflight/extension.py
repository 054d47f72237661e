"""What else was put into this proxy: EnvoyFilters, WasmPlugins and TrafficExtensions (HSW03xx, I2).

Either may authenticate, limit, rewrite or count; only Istio's own statistics filter is known to do nothing but count.
"""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.result import Finding, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import Extension

_CODES = {
    "EnvoyFilter": Code.ENVOY_FILTER,
    "WasmPlugin": Code.WASM_PLUGIN,
    "TrafficExtension": Code.TRAFFIC_EXTENSION,
}


def extension(mesh: MeshView, pod: MeshPod) -> Iterator[Finding]:
    for found in mesh.selecting(Extension, pod):
        code = _CODES.get(found.ref.kind, Code.KIND_NOT_KNOWN)
        for direction in sorted(found.directions if not found.telemetry else ()):
            sentence = f"{found.ref}: what it does to {direction} traffic would be lost"
            yield Finding(code, Verdict.REFUSE, direction, None, None, sentence, found.ref)
