"""The process behind ``mw.serve``: settings on standard input, one line of JSON on standard output once it serves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from modelworks.control.service import Service
from modelworks.core.errors import ModelworksError


def main() -> int:
    """Serve until told to stop."""
    order = json.loads(sys.stdin.read())

    def told(report: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()

    try:
        serving = Service.open(home=Path(order["home"])).serving()
        settings, _ = serving.settings(order["models"], **order["settings"])
        return serving.serve(settings, told)
    except ModelworksError as error:
        told({"error": error.to_json()})
        return 2


if __name__ == "__main__":
    sys.exit(main())
