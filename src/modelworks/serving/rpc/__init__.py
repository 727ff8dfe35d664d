"""The gRPC door: the Open Inference Protocol's messages and methods, and what carries them."""
