"""Where jobs run: executors, limits, usage, devices, and the one door to ONNX Runtime."""
