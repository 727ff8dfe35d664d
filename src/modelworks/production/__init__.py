"""The production line: a task or an order becomes a plan, steps, a verdict and a package."""
