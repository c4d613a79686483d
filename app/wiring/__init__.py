"""The composition root: the only place that knows settings, adapters and use cases at once.

Import its modules, not this package: a command that lists users must not load what only a gateway
needs (`operator` is for commands, `gateway` for serving).
"""
