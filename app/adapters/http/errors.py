"""What can fail in an exchange, each kind apart: some of them prove that nothing was sent.

The messages quote neither hosts nor headers nor bodies: these may hold secrets.
"""


class HttpError(Exception):
    """An exchange failed."""


class ConnectError(HttpError):
    """No connection could be opened; nothing was sent."""


class TlsHandshakeError(ConnectError):
    """The TLS handshake failed: wrong certificate, wrong name, or no TLS at all."""


class WriteError(HttpError):
    """The connection failed while the request was written; part of it may have been sent."""


class ReadError(HttpError):
    """The connection failed, or was closed, while an answer was awaited or read."""


class BodyTruncated(ReadError):
    """The body ended before its end: fewer bytes than announced, or no last chunk."""


class MalformedResponse(HttpError):
    """The reply is no HTTP, or its head is larger than our limits."""


class HttpTimeout(HttpError):
    """A step took longer than its limit."""


class PoolTimeout(HttpTimeout):
    """No connection became free; nothing was sent."""


class ConnectTimeout(HttpTimeout):
    """No connection was open in time; nothing was sent."""


class ReadTimeout(HttpTimeout):
    """The server sent nothing for too long."""
