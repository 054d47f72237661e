"""Takes secrets out of evidence and notices before they are written or sent: keys, tokens, passwords, cookies (S4.7).

By place where the structure is known (a key of a JSON object, the value of a header), and by look everywhere: what
looks like a private key, a token or a password goes, also where it is harmless. Better too much than too little.
Certificates are public and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

GONE = "[redacted]"
_SECRET_WORD = (
    r"secret|token|passw(?:or)?d|passphrase|pwd|credential|api[-_]?key|access[-_]?key|private[-_]?key|auth[-_]?key"
)
_HEADER = r"(?:proxy-|x-)?authorization|(?:set-)?cookie|x-forwarded-client-cert|x-api-key|x-[a-z-]*token[a-z-]*"
_NAMES = re.compile(rf"(?i){_HEADER}|{_SECRET_WORD}")
_ALWAYS = frozenset(
    {
        "private_key",
        "inline_bytes",
        "inline_string",
        "secret",
        "password",
        "pkcs12",
        "session_ticket_keys",
    }
)
_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
_KEY_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
_VALUE = r"\\?\"[^\"]*\"|'[^']*'"
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)*"), GONE),  # JWT
    (re.compile(r"(?i)\b(bearer|basic|negotiate|digest)\s+[\w.~+/=-]{6,}"), rf"\1 {GONE}"),
    (re.compile(rf"(?i)\b({_HEADER})(\\?[\"']?\s*[:=]\s*)({_VALUE}|[^\r\n]+)"), rf"\1\2{GONE}"),
    (re.compile(rf"(?i)((?:{_SECRET_WORD})[\w.-]*\\?[\"']?\s*[:=]\s*)({_VALUE}|[^\s,;&}}\]]+)"), rf"\1{GONE}"),
    (re.compile(r"(?<=://)[^/\s:@]{0,256}:[^/\s@]{1,256}@"), f"{GONE}@"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bxox[abprs]-[\w-]{10,}"), GONE),
)
_PIECE = 32768  # a search holds up every other thread: so much of a text at a time


def text(content: str) -> str:
    """Any text: logs, statistics, messages."""
    whole = _KEY_BLOCK.sub(GONE, content)
    if end := _KEY_END.search(whole):  # of a key whose beginning was cut off
        whole = GONE + whole[end.end() :]
    return "".join(_searched(piece) for piece in _pieces(whole))


def _pieces(content: str) -> Iterator[str]:
    """Cut at the ends of lines."""
    at = 0
    while at < len(content):
        end = content.find("\n", at + _PIECE) + 1 or len(content)
        yield content[at:end]
        at = end


def _searched(piece: str) -> str:
    for pattern, instead in _TEXTS:
        piece = pattern.sub(instead, piece)
    return piece


def tree(value: Any) -> Any:
    """Anything that came out of JSON."""
    if isinstance(value, dict):
        named = any(isinstance(value.get(name), str) and _NAMES.fullmatch(value[name]) for name in ("key", "name"))
        return {key: _member(key, inner, named) for key, inner in value.items()}
    if isinstance(value, list):
        return [tree(inner) for inner in value]
    return text(value) if isinstance(value, str) else value


def _member(key: str, value: Any, of_secret_header: bool) -> Any:
    """`of_secret_header`: the object has the name of one, as {"key": "authorization", "value": ...} does."""
    if key in _ALWAYS or (of_secret_header and key not in ("key", "name")):
        return GONE
    if isinstance(value, str) and _NAMES.search(key):
        return GONE
    return tree(value)
