"""Use cases on sessions: sign in, be recognised, sign out."""

import secrets
from dataclasses import dataclass, replace

from app.domain.secret_digest import digest_secret
from app.domain.session import (
    MAX_SESSIONS_PER_KEY,
    SESSION_LIFE_MS,
    Session,
    SessionRole,
    SessionStore,
    SignedInPerson,
)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A new session. `token` is for the cookie and is never stored."""

    token: str
    session: Session

    @property
    def user(self) -> str | None:
        """Who signed in without a key."""
        return None if self.session.person is None else self.session.person.name


class Sessions:
    """A session says only which API key it stands for: the key is checked anew with each request,
    so that a session ends with its key and may never do more than it."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def open(self, key_digest: str, role: SessionRole) -> OpenedSession:
        """Always with a new token: one that a browser had before never becomes somebody's.

        Raises `LedgerUnavailable`."""
        return await self._save(key_digest, role)

    async def open_for(self, person: SignedInPerson, role: SessionRole) -> OpenedSession:
        """The same for somebody without a key. Raises `LedgerUnavailable`."""
        return await self._save(digest_secret(f"person\n{person.name}"), role, person)

    async def find(self, token: str) -> Session | None:
        """The session of a cookie's token; None when it has ended. Raises `LedgerUnavailable`."""
        return await self._store.find(digest_secret(token))

    async def end(self, session: Session) -> None:
        """End it on all workers within three seconds. Raises `LedgerUnavailable`."""
        await self._store.end(session)

    async def _save(
        self, key_digest: str, role: SessionRole, person: SignedInPerson | None = None
    ) -> OpenedSession:
        token = secrets.token_urlsafe(32)
        session = Session(digest_secret(token), key_digest, role, person=person)
        expires_ms = await self._store.save(session, SESSION_LIFE_MS, MAX_SESSIONS_PER_KEY)
        return OpenedSession(token, replace(session, expires_ms=expires_ms))
