"""Serving: the HTTP protocol, the listening socket, one process or several under a supervisor."""
