"""How a data source may be named in papers that leave the house: without passwords, tokens and private folders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

HIDDEN = "***"
_NUMBERS = frozenset({float, int, bool, type(None)})
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30}://)[^/\s@'\"<>]*@")
_HIDDEN_NAMES = (
    r"pass(?:word|wd)?|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|credential|signature|sig|auth|"
    r"x-amz-[a-z-]+|sas|account[_-]?key|session[_-]?token"
)
_PARAMETER = re.compile(rf"(?P<name>[?&;](?:[A-Za-z0-9_-]*(?:{_HIDDEN_NAMES}))=)[^&;\s'\"<>]+", re.IGNORECASE)


def without_secrets(value: Any, sources: Mapping[str, str] | None = None) -> Any:
    """Return plain data with the user part of URLs and secret query parameters hidden in every text.

    Args:
        value: Plain data.
        sources: Names of sources that are told by another name wherever they stand in a text.
    """
    if type(value) in _NUMBERS:
        return value
    if isinstance(value, str):
        for private, public in (sources or {}).items():
            value = value.replace(private, public)
        return hide(value)
    if type(value) is dict or isinstance(value, Mapping):
        return {
            without_secrets(str(key), sources): without_secrets(item, sources) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        if all(type(item) in _NUMBERS for item in value):
            return list(value)
        return [without_secrets(item, sources) for item in value]
    return value


def hide(text: str) -> str:
    """Return ``text`` without ``user:password@`` in URLs and without the values of secret parameters."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", _USER.sub(rf"\g<scheme>{HIDDEN}@", text))


def public_name(source: str) -> str:
    """Return a source as papers name it: a URL without secrets, or the last part of a path."""
    if "://" in source:
        return hide(source)
    last = PureWindowsPath(source).name if "\\" in source else PurePosixPath(source).name
    return last or source
