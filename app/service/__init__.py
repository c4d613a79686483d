"""The use cases: the order of steps; they know ports and no framework."""
