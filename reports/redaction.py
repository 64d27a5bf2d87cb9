"""Secrets out of what is saved: tokens, passwords and private keys, wherever a node's text holds them.

Paths of key files and of kubeconfigs stay; what such files hold is never read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

REDACTED = "[redacted]"

# Every repetition is bounded: a hostile line of 250 kB must not take an hour.
_NAME = (
    r"(?:[\w.-]{0,40}?(?:passw(?:or)?d|passphrase|secret|api[-_.]?key|access[-_.]?key|private[-_.]?key|client[-_.]?key[-_.]?data"
    r"|credentials?|token|psk)[\w.-]{0,40}?)"
)
_KEY = re.compile(rf"^{_NAME}$", re.IGNORECASE)
_FLAG = re.compile(rf"^--?{_NAME}$", re.IGNORECASE)
#: A file that holds a secret is no secret.
_PATH = re.compile(r"^[\"']?(/|\./|$)")
_VALUE = r"""(?P<value>"[^"]*"|'[^']*'|[^\s,;&"']+)"""
_GIVEN = re.compile(rf"(?P<name>\b{_NAME}[\"']?\s{{0,9}}[=:]\s{{0,9}}|--?{_NAME}\s{{1,9}}){_VALUE}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
#: An HTTP header, or its value alone.
_HEADER = re.compile(
    r"\b(authorization\s{0,9}[=:]\s{0,9}|bearer\s{1,9}|basic\s{1,9}(?=[A-Za-z0-9+/]{12}))"
    r"(?:(?:bearer|basic)\s{1,9})?[^\s\"',;]+",
    re.IGNORECASE,
)
#: What is a secret wherever it stands.
_ALWAYS = (
    re.compile(r"\beyJ[\w-]{8,400}\.[\w-]{4,}(?:\.[\w-]*)?"),  # a JSON Web Token, as service accounts have
    re.compile(r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"),  # https://user:password@host
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{10,}"),
    re.compile(r"(?<![\w.-])[a-z0-9]{6}\.[a-z0-9]{16}(?![\w.-])"),  # a kubeadm bootstrap token
)


def text(given: str) -> str:
    """The text without secrets."""
    given = _HEADER.sub(rf"\1{REDACTED}", _PEM.sub(REDACTED, given))
    for pattern in _ALWAYS:
        given = pattern.sub(REDACTED, given)
    return _GIVEN.sub(_value, given)


def _value(found: re.Match[str]) -> str:
    return found[0] if _PATH.match(found["value"]) else f"{found['name']}{REDACTED}"


#: Texts that a recording holds again and again are short.
SHORT = 200
_short = lru_cache(100_000)(text)


def everything(value: Any) -> Any:
    """The same JSON without secrets: in texts, under keys that say so, after an option that says so."""
    if isinstance(value, str):
        return _short(value) if len(value) < SHORT else text(value)
    if isinstance(value, list | tuple):
        return _arguments([everything(one) for one in value])
    if isinstance(value, dict):
        return {key: _under(key, one) for key, one in value.items()}
    return value


def _under(key: Any, value: Any) -> Any:
    if isinstance(value, str) and isinstance(key, str) and _KEY.match(key) and not _PATH.match(value):
        return REDACTED
    return everything(value)


def _arguments(given: list[Any]) -> list[Any]:
    """A command line: what follows ``--token`` is one."""
    for at, (option, value) in enumerate(pairwise(given)):
        if isinstance(option, str) and isinstance(value, str) and _FLAG.match(option) and not _PATH.match(value):
            given[at + 1] = REDACTED
    return given
