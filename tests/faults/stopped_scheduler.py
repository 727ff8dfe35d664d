"""A scheduler that is stopped in the middle of a run: ``python stopped_scheduler.py FOLDER LEASE_S``."""

import sys
import time
from pathlib import Path

from chain import produce

from modelworks.core.errors import ModelworksError
from modelworks.telemetry.events import StepStarted

folder = Path(sys.argv[1])


def pause(event: object = None) -> None:
    """Wait at the second step until a file appears, as a frozen process would."""
    if isinstance(event, StepStarted) and event.step == "chain_split":
        (folder / "at-split").touch()
        while not (folder / "go-on").exists():
            time.sleep(0.01)


try:
    print("done", produce(folder, pause, lease_s=float(sys.argv[2])))
except ModelworksError as error:
    print(error.error_code)
