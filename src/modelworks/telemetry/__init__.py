"""Events, progress, the ledger's arithmetic, logs without secrets."""
