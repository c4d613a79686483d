"""The digest by which a secret is known: the store holds it instead of the secret."""

import hashlib


def digest_secret(secret: str) -> str:
    """SHA-256 (hex) of a key, token or code. It is stored: another digest would disown them all."""
    return hashlib.sha256(secret.encode()).hexdigest()
