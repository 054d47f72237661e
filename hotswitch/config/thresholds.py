"""When evidence is enough: the profile, and what a recovery must show. Chosen by the nearest, within the mesh's bound.

The fast profile risks needless switches, so nobody may choose a faster one than the mesh allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hotswitch.config.agentfile import FAST
from hotswitch.config.layers import DEFAULT, MESH_TIERS, Layer, Provenance, said
from hotswitch.config.timings import bounds_of
from hotswitch.model import Thresholds

_PROFILES: Mapping[str, Thresholds] = {"default": Thresholds(), "fast": FAST}
_SPEED = ("default", "fast")


def resolve(found: tuple[Layer, ...], recover_after_s: float, where: dict[str, Provenance]) -> Thresholds:
    profile, where["profile"] = _profile(found)
    probes, where["timings.recoverProbes"] = _probes(found)
    return replace(_PROFILES[profile], recover_after_s=recover_after_s, recover_probes=probes)


def _profile(found: tuple[Layer, ...]) -> tuple[str, Provenance]:
    mesh_layers = tuple(layer for layer in found if layer.tier in MESH_TIERS)
    own = said(mesh_layers, lambda spec: spec.profile)
    fastest = bounds_of(mesh_layers).profile or (own[-1][1] if own else "default")
    chosen = said(found, lambda spec: spec.profile)
    if not chosen:
        return "default", Provenance("default")
    layer, wanted = chosen[-1]
    notes = [f"{other.source} said {value}" for other, value in chosen[:-1]]
    profile = wanted if layer.tier in MESH_TIERS else min(wanted, fastest, key=_SPEED.index)
    notes += [f"asks for {wanted}; the mesh allows {fastest}"] if profile != wanted else []
    return profile, Provenance(profile, layer.source, tuple(notes))


def _probes(found: tuple[Layer, ...]) -> tuple[int, Provenance]:
    chosen = said(found, lambda spec: spec.timings.recover_probes)
    if not chosen:
        default = Thresholds().recover_probes
        return default, Provenance(str(default), DEFAULT)
    layer, probes = chosen[-1]
    notes = tuple(f"{other.source} said {value}" for other, value in chosen[:-1])
    return probes, Provenance(str(probes), layer.source, notes)
