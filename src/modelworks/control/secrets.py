"""Passwords in connection URLs stay out of all records: only the environment of this process has them."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from modelworks.core.digest import digest_bytes
from modelworks.production.order import Line, Order

_PASSWORD = re.compile(r"(?P<head>[a-z0-9+.-]+://[^/@:\s]*:)(?P<secret>[^@/\s]+)@")


def hide_passwords(order: Order) -> Order:
    """Return the order with every password in a URL replaced by the name of an environment variable.

    The variable is set in this process and inherited by its workers, which put the password back when they read.
    """
    return replace(order, lines=tuple(_hidden(line) for line in order.lines))


def _hidden(line: Line) -> Line:
    match = _PASSWORD.match(line.data)
    if match is None or match["secret"].startswith("${"):
        return line
    secret = match["secret"]
    # Named by place and not by value: a digest of a short password could be guessed back.
    variable = (
        f"MODELWORKS_SECRET_{digest_bytes((match['head'] + line.data[match.end() :]).encode())[:12].upper()}"
    )
    os.environ[variable] = secret
    return replace(line, data=line.data.replace(f":{secret}@", f":${{{variable}}}@", 1))
