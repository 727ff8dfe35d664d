"""Runs the chain on a disk that is too small, then gives it 64 KiB more until it fits. Needs its own mount namespace.

Run inside ``unshare -rm`` as ``python full_disk_driver.py MOUNT_POINT``; prints one JSON line per start.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

from chain import prepare, produce

from modelworks.core.errors import ModelworksError

STEP_KB = 64


def start(folder: Path) -> dict[str, object]:
    """Run the chain in a child; returns how it ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer: dict[str, object] = {"tree": produce(folder, filler=60_000)}
        except ModelworksError as error:
            answer = error.to_json()
        except BaseException:
            answer = {"kind": "trace", "message": traceback.format_exc()}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        answer = json.loads(stream.read())
    os.waitpid(pid, 0)
    return answer


def main() -> None:
    """Grow the disk until the chain fits."""
    mount = Path(sys.argv[1])
    size = STEP_KB
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(mount)], check=True)
    prepare(mount)
    while True:
        answer = start(mount)
        print(json.dumps({"size_kb": size} | answer), flush=True)
        if "tree" in answer or size > 8192:
            break
        size += STEP_KB
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(mount)], check=True)
    notes = (mount / "notes.txt").read_text().splitlines()
    print(json.dumps({"notes": notes, "again": start(mount)}), flush=True)
    (mount / "notes.txt").write_text("")
    print(json.dumps({"left": [path.name for path in (mount / "store" / "staging").iterdir()]}), flush=True)


main()
