"""The listening socket: bound once, before anything slow starts, and shared by all workers."""

import errno
import socket

BACKLOG = 2048


class ListenFailed(Exception):
    """The address cannot be used; the message says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; raises `ListenFailed` with what to do. Port 0 takes any free one."""
    listening = None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise ListenFailed(_explain(host, port, error)) from None
    return listening


def listen_from(host: str, port: int, max_tries: int = 20) -> socket.socket:
    """The first free port from `port` upwards."""
    for candidate in range(port, port + max_tries):
        try:
            return listen(host, candidate)
        except ListenFailed:
            continue
    return listen(host, port)


def url_of(listening: socket.socket) -> str:
    """How a client on this machine reaches it."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is taken; end what listens there, or choose another one, "
            f"for example --port {port + 1}."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has; choose one above 1023."
    reason = error.strerror or error
    return f"Cannot listen on {host} port {port} ({reason}); check --host and --port."
