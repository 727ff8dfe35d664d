"""The inference engine: verified packages behind one port, batched, dense, changed without a gap."""
