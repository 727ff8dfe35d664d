"""A released package needs no Modelworks: this script starts its ``predict.py`` with onnxruntime and numpy alone."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import modelworks as mw

TABLES = Path(mw.__file__).parent / "examples_data"

package = mw.produce(TABLES / "penguins.csv", target="species").package
with tempfile.TemporaryDirectory() as folder:
    rows = Path(folder) / "rows.json"
    rows.write_text(json.dumps([{"island": "Biscoe", "flipper_length_mm": 220, "body_mass_g": 5000}]))
    answer = subprocess.run(
        [sys.executable, "-I", str(package / "predict.py"), str(rows)],
        capture_output=True,
        text=True,
        check=True,
    )
print(answer.stdout)
