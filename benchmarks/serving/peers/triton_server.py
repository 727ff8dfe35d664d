"""Becomes a Triton server with its Python backend, out of the ``nvidia-pytriton`` of this environment: the same graph
in ONNX Runtime, run by the script that ``mw package export --to triton-python`` writes."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def main() -> None:
    models, name = Path(os.environ["BENCH_MODELS"]), os.environ["BENCH_MODEL"]
    packages = Path(sysconfig.get_path("purelib"))
    server = packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    backend = models / "triton-backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    for file in (*(server / "backends" / "python").glob("*.*"), stub):
        link = backend / file.name
        if not link.exists():
            link.symlink_to(file)
    libraries = (packages / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    program = str(server / "bin" / "tritonserver")
    arguments = [
        program, f"--model-repository={models / 'triton' / name}", f"--backend-directory={backend.parent}",
        "--http-address=127.0.0.1", f"--http-port={os.environ['BENCH_PORT']}",
        "--grpc-address=127.0.0.1", f"--grpc-port={os.environ['BENCH_GRPC_PORT']}",
        "--allow-metrics=false", "--exit-timeout-secs=3",
    ]  # fmt: skip
    os.execve(program, arguments, {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))})


if __name__ == "__main__":
    main()
