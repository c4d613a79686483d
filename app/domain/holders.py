"""What holders of keys may do without an operator."""

from enum import StrEnum

from app.domain.errors import GatewayError


class KeyManagement(StrEnum):
    """What holders may do with their own keys: only see them; also replace and end them; also
    create and narrow them."""

    OFF = "off"
    ROTATE = "rotate"
    ALL = "all"


class HolderNotAllowed(GatewayError):
    """A holder may not do this with a key; the message says who can."""

    code = "not_allowed"
