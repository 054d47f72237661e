"""May Services of a namespace be taken over for a while? By default never; the mesh allows it, a namespace may not want
it (I2).
"""

from __future__ import annotations

from collections.abc import Iterable

from hotswitch.api.knobs import Knobs
from hotswitch.config import safety
from hotswitch.config.layers import Bearing, layers
from hotswitch.config.objects import ObjectRef, PolicyObject


def refusal(policies: Iterable[PolicyObject], root_namespace: str, namespace: str) -> str:
    """Why not; "" when they may. `policies`: all that are known, scoped already."""
    mine = [policy for policy in policies if policy.ref.namespace in (root_namespace, namespace)]
    mine = [policy for policy in mine if not policy.selects_some and policy.selects(namespace, {})]
    nobody = Bearing(ObjectRef(kind="Service", name="any", namespace=namespace), {}, Knobs())
    value, origin = safety.resolve(safety.ADOPT, layers(mine, root_namespace, None, nobody))
    return "" if value == "when-below" else f"{origin.source} says adopt: {value}"
