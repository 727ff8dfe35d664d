"""Shared encoders as ONNX graphs: preprocessing inside, embeddings out, named by the digest of their bytes."""
