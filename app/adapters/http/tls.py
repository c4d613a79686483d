"""Whom the adapters believe when they speak TLS."""

import ssl

import certifi


def public_tls_context() -> ssl.SSLContext:
    """The public certificate authorities, TLS 1.2 and up: the same on every machine, since
    SSL_CERT_FILE and the like are not read."""
    # `ssl.create_default_context` would write session keys where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
