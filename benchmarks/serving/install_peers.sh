#!/usr/bin/env bash
# A virtual environment per peer below the folder given; with the versions of 2026-11-26.
set -euo pipefail
folder=${1:?folder for the environments}
mkdir -p "$folder"
make() {
  python3.11 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install -q "${@:2}"
}
make plain fastapi==0.165.0 "uvicorn[standard]==0.54.0" grpcio==1.85.3 "tritonclient[grpc]==2.73.0" onnxruntime==1.32.0
make mlserver mlserver==1.7.1 onnxruntime==1.32.0
make bentoml bentoml==1.4.40 onnxruntime==1.32.0
make litserve litserve==0.2.19 onnxruntime==1.32.0
make triton "numpy<2" onnxruntime==1.32.0
"$folder/triton/bin/pip" install -q --no-deps nvidia-pytriton==0.7.0
make ray "ray[serve]==2.60.0" onnxruntime==1.32.0
