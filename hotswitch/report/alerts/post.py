"""One message to one receiver, whatever that one does (S4.6, A9).

Everything is bounded: the whole attempt in time, headers and body in bytes; the body is not read to its end, and the
connection is not used again. No redirect is followed, no cookie kept, no proxy of the environment asked; TLS is
verified.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import aiohttp

from hotswitch import __version__
from hotswitch.report.alerts.backoff import retry_after_s
from hotswitch.report.alerts.guard import GuardedResolver, Refused, connector
from hotswitch.report.alerts.held import HeldSecrets
from hotswitch.report.alerts.payload import Body
from hotswitch.report.alerts.receiver import Receiver, SecretReader, SecretRef
from hotswitch.report.alerts.signature import HEADER, sign
from hotswitch.report.scrub import plain

ANSWER_BYTES = 300
_NEVER_AS_IT_IS = frozenset({400, 413, 415, 422})  # the message is at fault, not the moment


class Outcome(StrEnum):
    SENT = "sent"
    FAILED = "failed"  # again later
    REFUSED = "refused"  # this message never


@dataclass(frozen=True, slots=True)
class Posted:
    outcome: Outcome
    sentence: str = ""
    retry_after_s: float | None = None


class Poster:
    """For one receiver, in one event loop."""

    def __init__(self, receiver: Receiver, secrets: SecretReader, clock: Callable[[], float] = time.time) -> None:
        self.receiver = receiver
        self._secrets = HeldSecrets(secrets)
        self._clock = clock
        self._resolver = GuardedResolver(receiver.rules)

    async def post(self, body: Body, message_id: str) -> Posted:
        """Never raises for what the receiver, the network or the Secrets do."""
        try:
            async with asyncio.timeout(self.receiver.timeout_s):
                return await self._post(body, message_id)
        except TimeoutError:
            return Posted(Outcome.FAILED, f"no answer within {self.receiver.timeout_s:g} s")
        except Refused as refused:
            return Posted(Outcome.FAILED, str(refused))
        except Exception as failure:  # a receiver's bytes, a Secret reader of another part: nothing may end the worker
            return Posted(Outcome.FAILED, _reason(failure))

    async def _post(self, body: Body, message_id: str) -> Posted:
        url = self.receiver.rules.check_url(await self._text(self.receiver.url))
        headers = await self._headers(body, message_id)
        door = connector(self.receiver.rules, self._resolver, await self._context())
        async with (
            aiohttp.ClientSession(
                connector=door, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as session,
            session.post(
                str(url).rstrip("/") + body.path if body.path else url,
                data=body.content, headers=headers, allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            return await self._judged(answer)

    async def _judged(self, answer: aiohttp.ClientResponse) -> Posted:
        status = answer.status
        if 200 <= status < 300:
            return Posted(Outcome.SENT)
        if 300 <= status < 400:
            return Posted(Outcome.FAILED, f"answered {status}: redirects are not followed")
        if status in _NEVER_AS_IT_IS:
            said = plain((await answer.content.read(ANSWER_BYTES)).decode("utf-8", "replace"), ANSWER_BYTES)
            return Posted(Outcome.REFUSED, f"answered {status}: {said}")
        wait_s = retry_after_s(answer.headers.get("Retry-After"), self._clock())
        return Posted(Outcome.FAILED, f"answered {status}", wait_s)

    async def _headers(self, body: Body, message_id: str) -> dict[str, str]:
        headers = {
            "Content-Type": body.content_type,
            "User-Agent": f"hotswitch/{__version__}",
            "Hotswitch-Id": message_id,
        }
        if self.receiver.authorization is not None:
            headers["Authorization"] = await self._text(self.receiver.authorization)
        if self.receiver.signing is not None:
            key = (await self._secrets.read(self.receiver.signing)).strip()
            if not key:
                raise Refused("The Secret with the key of the signature is empty.")
            headers[HEADER] = sign(key, body.content, self._clock())
        return headers

    async def _text(self, value: str | SecretRef) -> str:
        if isinstance(value, str):
            return value
        try:
            return (await self._secrets.read(value)).decode("ascii").strip()
        except UnicodeDecodeError as failure:
            raise Refused(f"Secret {value.namespace}/{value.name}: {value.key} is not plain text.") from failure

    async def _context(self) -> ssl.SSLContext:
        authorities = b"" if self.receiver.ca is None else await self._secrets.read(self.receiver.ca)
        return await asyncio.to_thread(_tls, authorities)

    async def close(self) -> None:
        await self._resolver.close()


@lru_cache(maxsize=32)
def _tls(authorities: bytes) -> ssl.SSLContext:
    """Made once for all receivers with the same authorities: it takes tens of milliseconds, in a thread."""
    context = ssl.create_default_context(cadata=authorities.decode("ascii") if authorities else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _reason(failure: BaseException) -> str:
    """Not aiohttp's whole message: it may repeat the URL, which may hold a token."""
    cause = failure.__cause__ if isinstance(failure.__cause__, Refused | ssl.SSLError) else None
    inner = getattr(failure, "os_error", None)
    known = cause or (inner if isinstance(inner, OSError) else None)
    if isinstance(known, Refused):
        return str(known)
    words = getattr(known, "verify_message", "") or getattr(known, "strerror", "") or ""
    return plain(f"{type(failure).__name__} {words}".strip(), 200)
