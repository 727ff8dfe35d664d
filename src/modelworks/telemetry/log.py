"""Structured logs: one JSON object a line, with everything that looks like a secret taken out."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from modelworks.core.clock import iso

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"passw|secret|token|api_?key|access_?key|private_?key|credential|authorization|cookie|session_id",
    re.IGNORECASE,
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Credentials inside a URL: scheme://user:password@host, and signatures of pre-signed URLs.
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE), rf"\1{REDACTED}@"),
    (
        re.compile(
            r"([?&](?:x-amz-signature|x-amz-credential|x-amz-security-token|sig|signature|token|key|password)=)[^&\s'\"]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"((?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key)\w*\s*[=:]\s*)(['\"]?)[^\s'\",;&]+",
            re.IGNORECASE,
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}\b"), REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), REDACTED),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REDACTED,
    ),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """Return ``text`` without passwords in URLs, signed-URL signatures, bearer tokens, keys and their like."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_data(value: Any) -> Any:
    """Return plain data with texts redacted, and whole values under secret names replaced."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {
            key: REDACTED if _SECRET_NAME.search(str(key)) and item else redact_data(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact_data(item) for item in value]
    return value


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON line; fields given as ``extra`` are kept as fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, redacted."""
        data: dict[str, Any] = {
            "at": iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        data |= redact_data(extra)
        if record.exc_info:
            data["trace"] = redact(self.formatException(record.exc_info))
        return json.dumps(data, ensure_ascii=False, default=lambda value: redact(repr(value)))


def log_to(path: Path, level: int = logging.INFO) -> logging.Handler:
    """Append the logs of ``modelworks`` to a file as JSON lines; returns the handler, to be closed by the caller."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(JsonFormatter())
    handler.setLevel(level)
    logger = logging.getLogger("modelworks")
    logger.setLevel(min(level, logger.level or level))
    logger.addHandler(handler)
    return handler
