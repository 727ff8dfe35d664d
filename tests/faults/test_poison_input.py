"""F16: an order over poison tables. Each line ends with a cause, and the good ones beside them are released."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "age,income,city,churned\n"
REFUSED = {
    "nothing.parquet": "MW1120",
    "header.csv": "MW1131",
    "one_class.csv": "MW1210",
    "noise.csv": "MW1124",
    "wide.csv": "MW2011",
}
MENDED = ("infinite.csv", "mixed.csv")
"""Bad cells and rows are set aside; the rest of the table is good enough."""


def _rows(seed: int, count: int) -> list[str]:
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        age, income = source.randint(18, 80), source.gauss(50, 12)
        churned = "yes" if age + income + source.gauss(0, 8) > 100 else "no"
        rows.append(f"{age},{income:.2f},{source.choice(['Bern', 'Basel', 'Chur'])},{churned}\n")
    return rows


def _write_tables(folder: Path) -> None:
    rows = _rows(16, 400)
    wide = ",".join(f"c{number}" for number in range(100_000))
    infinite = [f"inf,{'NaN' if index % 2 else '1e999'},Bern,yes\n" for index in range(40)]
    contents = {
        "good.csv": (HEAD + "".join(rows)).encode(),
        "nothing.parquet": b"",
        "header.csv": HEAD.encode(),
        "one_class.csv": (HEAD + "".join(row.replace(",yes", ",no") for row in rows)).encode(),
        "wide.csv": f"{wide}\n{','.join(['1'] * 100_000)}\n".encode(),
        "noise.csv": bytes((index * 7919) % 256 for index in range(5000)),
        "infinite.csv": (HEAD + "".join(rows + infinite)).encode(),
        "mixed.csv": (HEAD + "".join(rows)).encode() + "44,50,Zürich,no\n".encode("latin-1") + b"1,2\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


@pytest.mark.slow
def test_f16_poison_fails_alone_with_a_cause(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    names = ["good.csv", *REFUSED, *MENDED]
    tasks = "".join(f"  - {{data: {name}, target: churned}}\n" for name in names)
    order = tmp_path / "order.yaml"
    order.write_text(f"name: poison\ndefaults: {{budget: 20s}}\ntasks:\n{tasks}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "modelworks", "produce", str(order), "--json"],
        env=os.environ | {"MODELWORKS_HOME": str(tmp_path / "home"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    verdicts = {Path(line["data"]).name: line["verdict"] for line in answer["lines"]}
    assert set(verdicts) == set(names)
    for name, code in REFUSED.items():
        assert verdicts[name]["kind"] in {"refused", "failed"}, name
        assert verdicts[name]["cause"].startswith(code), verdicts[name]
        assert verdicts[name]["fix"], name
    for name in ("good.csv", *MENDED):
        assert verdicts[name]["kind"] == "released", verdicts[name]
