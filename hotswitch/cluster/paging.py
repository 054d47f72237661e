"""A whole list, page by page: the next one is on its way while the last one is read.

An API server needs as long to make a page as we need to read one, and neither has to wait for the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from hotswitch.cluster.client import PAGE, Cluster
from hotswitch.cluster.stream import Page, page


async def pages(cluster: Cluster, path: str, query: Mapping[str, str], timeout_s: float) -> AsyncGenerator[Page]:
    """`timeout_s`: of each page. To be closed (`aclosing`) by whoever leaves it early. Raises ApiFailure, Garbled."""

    def ask(token: str) -> asyncio.Task[bytes]:
        asked = {**query, "limit": str(PAGE), **({"continue": token} if token else {})}
        return asyncio.create_task(cluster.request("GET", path, asked, timeout_s=timeout_s))

    answer = ask("")
    try:
        while True:
            read = page(await answer)
            token = read.metadata.next_page
            if token:
                answer = ask(token)
            yield read
            if not token:
                return
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
