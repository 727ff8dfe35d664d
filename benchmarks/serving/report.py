"""The report of a run: every cell as a table, and each goal with what was measured.

python -m benchmarks.serving.report FILE.jsonl [FILE.jsonl ...] > reports/DATE.md

Several files are the pieces of one campaign: other models, forms or servers, or more rounds of the same.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.cells import CELLS, Cell
from benchmarks.serving.models import CNN, TEXT, TREE
from benchmarks.serving.servers import BOUND

LOOP = "in-process loop"
OURS = "modelworks"
Rows = dict[tuple[str, str], list[dict[str, Any]]]


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def per_s(row: dict[str, Any]) -> float:
    """Answers a second."""
    return row["answers"] / row["seconds"] if row["seconds"] > 0 else 0.0


def cpu_us(row: dict[str, Any]) -> float:
    """CPU-microseconds of the server per answer."""
    return row["cpu_s"] / row["answers"] * 1e6 if row["answers"] else float("nan")


def middle(rows: list[dict[str, Any]], value: Any) -> float:
    """Return the median of a value over the rounds."""
    found = [value(row) for row in rows]
    return median(found) if found else float("nan")


class Report:
    """What a file of rows says.

    Args:
        paths: Rows written by ``benchmarks.serving.run``.
    """

    def __init__(self, *paths: Path) -> None:
        self.versions: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self.compiler = ""
        self.lengths: set[str] = set()
        self.checks: dict[tuple[str, str], str] = {}
        self.rows: Rows = defaultdict(list)
        for number, path in enumerate(paths):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                if "versions" in row:
                    self.versions |= row["versions"]
                    self.models |= row["models"]
                    self.compiler = row["compiler"]
                    self.lengths.add(f"{row['rounds']} interleaved rounds of {row['seconds']} s")
                elif "check" in row:
                    self.checks[row["model"], row["check"]] = row["wrong"] or "equal"
                else:
                    row["round"] = (number, row["round"])
                    self.rows[(row["cell"], row["server"])].append(row)

    def of(self, cell: Cell, server: str) -> list[dict[str, Any]]:
        """Return the rounds of a server in a cell."""
        return self.rows.get((cell.title, server), [])

    def share(self, cell: Cell, server: str) -> float:
        """Throughput as a share of the bare loop of the same round, median over the rounds."""
        return middle(self.of(cell, server), lambda row: per_s(row) / row["loop_per_s"])

    def cpu_share(self, cell: Cell, server: str) -> float:
        """CPU time of a bare run as a share of the CPU time of an answered request."""
        return middle(self.of(cell, server), lambda row: row["loop_cpu_us"] / cpu_us(row))

    def times(self, cell: Cell, other: str, value: Any) -> float:
        """Modelworks' value over another server's, median over the rounds that both have."""
        ours = {row["round"]: value(row) for row in self.of(cell, OURS)}
        pairs = [
            ours[row["round"]] / value(row)
            for row in self.of(cell, other)
            if row["round"] in ours and value(row)
        ]
        return median(pairs) if pairs else float("nan")

    # -- text --------------------------------------------------------------------------------------------------

    def table(self, cell: Cell) -> list[str]:
        """Return one cell's table."""
        servers = [server for title, server in self.rows if title == cell.title and server != LOOP]
        if not servers:
            return []
        loop = self.of(cell, LOOP)
        lines = [
            f"### {cell.title[0].upper()}{cell.title[1:]}",
            "",
            "| server | requests/s | of the loop | CPU us/request | of the loop's CPU | p50 ms | p99 ms "
            "| memory MB | errors |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            f"| {LOOP} | {middle(loop, per_s):,.0f} | 1 | {middle(loop, cpu_us):.1f} | 1 | "
            f"{middle(loop, lambda row: row['p50_us']) / 1e3:.3f} | "
            f"{middle(loop, lambda row: row['p99_us']) / 1e3:.3f} | | |",
        ]
        for server in sorted(set(servers), key=lambda name: -middle(self.of(cell, name), per_s)):
            rows = self.of(cell, server)
            failed = sum(row["errors"] + row["unanswered"] for row in rows)
            lines.append(
                f"| {server} | {middle(rows, per_s):,.0f} | {self.share(cell, server):.3f} | "
                f"{middle(rows, cpu_us):,.0f} | {self.cpu_share(cell, server):.3f} | "
                f"{middle(rows, lambda row: row['p50_us']) / 1e3:.2f} | "
                f"{middle(rows, lambda row: row['p99_us']) / 1e3:.2f} | "
                f"{middle(rows, lambda row: row['memory_mb']):,.0f} | {failed:,.0f} |"
            )
        return [*lines, ""]

    def goals(self) -> list[str]:
        """Return each goal with what was measured."""
        tree = Cell(model=TREE, form="json")
        cnn = Cell(model=CNN, form="binary")
        rows = [
            (
                "tree, JSON, 16 connections: share of the loop's throughput",
                0.25,
                self.share(tree, OURS),
                ">=",
            ),
            ("the same, by CPU time", 0.25, self.cpu_share(tree, OURS), ">="),
        ]
        for peer in ("mlserver", "bentoml"):
            rows.append((f"the same: times {peer}'s throughput", 15, self.times(tree, peer, per_s), ">="))
            rows.append(
                (f"the same: p99 over {peer}'s", 0.1, self.times(tree, peer, lambda row: row["p99_us"]), "<=")
            )
        bound = f" (the bare socket has {self.share(cnn, BOUND):.3g})"
        rows.append((f"cnn, binary: share of the loop's throughput{bound}", 0.9, self.share(cnn, OURS), ">="))
        bound = f" (the bare socket has {self.cpu_share(cnn, BOUND):.3g})"
        rows.append((f"the same, by CPU time{bound}", 0.9, self.cpu_share(cnn, OURS), ">="))
        for model in (TREE, CNN, TEXT):
            cell = Cell(model=model, form="grpc")
            wanted = 3 if model == TREE else 1
            rows.append(
                (f"{model}, gRPC: times plain grpc.aio", wanted, self.times(cell, "grpc.aio", per_s), ">=")
            )
        lines = ["| goal | wanted | measured | |", "|---|---:|---:|---|"]
        for what, wanted, found, sign in rows:
            if found == found:
                held = found >= wanted if sign == ">=" else found <= wanted
                lines.append(f"| {what} | {sign} {wanted} | {found:.3g} | {'held' if held else 'MISSED'} |")
        return [*lines, ""]

    def losses(self) -> list[str]:
        """Return the cells in which another server was faster or answered sooner."""
        lines = []
        for cell in CELLS:
            for other in sorted(
                {server for title, server in self.rows if title == cell.title} - {LOOP, OURS, BOUND}
            ):
                faster = self.times(cell, other, per_s)
                later = self.times(cell, other, lambda row: row["p99_us"])
                if not cell.rate and faster < 1:
                    lines.append(f"- {cell.title}: {other} has {1 / faster:.2f} times the throughput")
                if later > 1:
                    lines.append(f"- {cell.title}: p99 is {later:.2f} times that of {other}")
        return [*(lines or ["- none in this run"]), ""]

    def text(self) -> str:
        """Return the report as Markdown."""
        loops = [
            per_s(row)
            for (title, server), rows in self.rows.items()
            if server == LOOP and title == Cell(model=TREE, form="json").title
            for row in rows
        ]
        spread = f"{min(loops):,.0f} to {max(loops):,.0f} runs/s" if loops else "not measured"
        lines = [
            f"Machine: {processor()}, {os.cpu_count()} cores shared by servers, load generator and other work; "
            f"{platform.system()} {platform.release()}, Python {platform.python_version()}.",
            f"The bare loop of the tree model drifted between {spread}: read the ratios, which are taken within a "
            "round, and the columns of CPU time, which other work disturbs less.",
            "",
            "Versions: "
            + ", ".join(f"{name} {version}" for name, version in self.versions.items())
            + f"; load generator: load.c, {self.compiler}.",
            "",
            "Models: " + "; ".join(f"{name}: {what}" for name, what in self.models.items()) + ".",
            "",
            f"{' and '.join(sorted(self.lengths))} a cell and server; medians.",
            "",
            f"`{BOUND}` is no server but a bound: the least that one Python process can do for a binary request, the "
            "run of the session included, without a token, a check or a metric (`peers/socket_server.py`).",
            "`triton (python)` is Triton with its Python backend, from nvidia-pytriton, and a session in Python; its "
            "ONNX Runtime backend is not to be had through pip.",
            "",
            "Answers compared with the bare runtime before the load: "
            + "; ".join(f"{model} {server} {found}" for (model, server), found in self.checks.items())
            + ".",
            "",
            "## Goals",
            "",
            *self.goals(),
            "## Where it loses",
            "",
            *self.losses(),
            "## Cells",
            "",
        ]
        for cell in CELLS:
            lines += self.table(cell)
        return "\n".join(lines)


if __name__ == "__main__":
    print(Report(*map(Path, sys.argv[1:])).text())
