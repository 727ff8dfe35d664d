"""What a stranger waits for: the download, the first command, the first model."""
