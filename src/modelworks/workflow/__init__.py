"""Steps that are memoised by content, resumable and parallel; knows nothing of models."""
