"""What became of a policy, said on the policy itself (config.condition), as far as it is not said there already."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import POLICIES
from hotswitch.config.condition import status
from hotswitch.config.objects import PolicyObject


async def report_status(cluster: Cluster, content: Mapping[str, Any], policy: PolicyObject) -> None:
    """Raises ApiFailure."""
    metadata = content["metadata"]
    wanted = status(policy, content.get("status") or {}, time.time())
    if wanted is None:
        return
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": wanted}
    await cluster.patch_merge(POLICIES, metadata["namespace"], metadata["name"], body, "status")
