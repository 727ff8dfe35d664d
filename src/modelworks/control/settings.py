"""Settings: built-in values, then ``modelworks.yaml``, then the environment; each knows its source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modelworks.core.errors import UsageError

FILE = "modelworks.yaml"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person may set for this machine.

    Attributes:
        home: Folder of everything that is kept (``MODELWORKS_HOME``).
        database: URL of the catalog; the SQLite file in ``home`` when empty (``MODELWORKS_DATABASE``).
        slots: Jobs that run side by side in an order; the cores of this machine when 0.
        memory: Whether what earlier tasks taught is used.
        durability: ``full`` survives a power cut, ``normal`` a killed process.
        heartbeat_s: Seconds between progress lines when there is no terminal.
        prices: Price list: ``currency, cpu_hour, gpu_hour, kwh, human_hour``.
        serving: What ``mw serve`` is told, see ``control/serve_settings.py`` (``MODELWORKS_SERVE_<NAME>``).
        sources: Setting -> where its value came from.
    """

    home: Path = field(default_factory=lambda: Path.home() / ".modelworks")
    database: str = ""
    slots: int = 0
    memory: bool = True
    durability: str = "full"
    heartbeat_s: float = 10.0
    prices: Mapping[str, Any] = field(default_factory=dict)
    serving: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "home": str(self.home),
            "database": _without_password(self.database),
            "slots": self.slots,
            "memory": self.memory,
            "durability": self.durability,
            "heartbeat_s": self.heartbeat_s,
            "prices": dict(self.prices),
            "serving": dict(self.serving),
            "sources": dict(self.sources),
        }


NAMES = tuple(item.name for item in fields(Settings) if item.name != "sources")


def load_settings(
    environment: Mapping[str, str] | None = None, *, folder: Path | None = None, home: Path | None = None
) -> Settings:
    """Return the settings in force.

    Args:
        environment: ``MODELWORKS_<NAME>`` variables; the process's own when ``None``.
        folder: Where ``modelworks.yaml`` is looked for; the working folder when ``None``.
        home: Overrides everything for ``home``.

    Raises:
        UsageError: A setting is unknown or its value cannot be used.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    named = environment.get("MODELWORKS_CONFIG")
    path = Path(named) if named else (folder or Path.cwd()) / FILE
    if named and not path.is_file():
        raise UsageError(f"MODELWORKS_CONFIG names '{path}', which is not there.", code="MW1301")
    if path.is_file():
        values = _read_file(path)
        sources = dict.fromkeys(values, str(path))
    for name in NAMES:
        variable = f"MODELWORKS_{name.upper()}"
        if name not in {"prices", "serving"} and environment.get(variable, "") != "":
            values[name] = _from_text(name, environment[variable], variable)
            sources[name] = variable
    if home is not None:
        values["home"], sources["home"] = home, "the caller"
    if "home" in values:
        values["home"] = Path(values["home"]).expanduser().resolve()
    return Settings(**values, sources=sources)


def _read_file(path: Path) -> dict[str, Any]:
    from modelworks.control.serve_settings import SHAPE
    from modelworks.production.order_fields import PRICES
    from modelworks.production.shapes import Flag, Number, Record, Text, read_document

    shape = Record(
        {
            "home": Text(),
            "database": Text(),
            "slots": Number(low=0, high=1024, whole=True),
            "memory": Flag(),
            "durability": Text(choices=("full", "normal")),
            "heartbeat_s": Number(low=0, open_low=True),
            "prices": Record(PRICES),
            "serving": SHAPE,
        }
    )
    reading = read_document(path.read_text(encoding="utf-8"), shape)
    if reading.problems:
        listed = "\n  ".join(f"{path.name}, {problem}" for problem in reading.problems)
        raise UsageError(f"The settings cannot be used:\n  {listed}", code="MW1302", where=str(path))
    found: dict[str, Any] = reading.value
    if "home" in found:
        found["home"] = (path.parent / Path(found["home"]).expanduser()).resolve()
    return found


def _from_text(name: str, text: str, variable: str) -> Any:
    kind = {"slots": int, "heartbeat_s": float}.get(name, str)
    if name == "memory":
        if text.lower() not in {"0", "1", "true", "false", "on", "off"}:
            raise UsageError(f"{variable} is '{text}'; it must be on or off.", code="MW1302")
        return text.lower() in {"1", "true", "on"}
    if name == "durability" and text not in {"full", "normal"}:
        raise UsageError(f"{variable} is '{text}'; it must be full or normal.", code="MW1302")
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{variable} is '{text}'; it must be a number.", code="MW1302") from None


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or "@" not in rest:
        return url
    user, _, host = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}:***@{host}" if ":" in user else url
