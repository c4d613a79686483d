"""The `SessionStore` on Redis, with a small cache in each process, like the key ring's."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AdminScope
from app.domain.errors import LedgerUnavailable
from app.domain.session import Session, SessionRole, SignedInPerson

FRESH_S = 3.0
STALE_S = {SessionRole.HOLDER: 60.0, SessionRole.OPERATOR: 900.0}
"""How long a session stays known while the store is away. An operator is about to mend that."""
MAX_KNOWN_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class _KnownSession:
    """An answer of the store, when it came (this process's clock), and the store's time then."""

    session: Session
    at_s: float
    store_ms: int

    def is_usable(self, now_s: float) -> bool:
        return self.store_ms + (now_s - self.at_s) * 1000 < self.session.expires_ms


class RedisSessions:
    """`app.domain.session.SessionStore` says what each method does."""

    def __init__(self, scripts: LedgerScripts, now: Callable[[], float] = time.monotonic) -> None:
        self._scripts, self._now = scripts, now
        self._known: OrderedDict[str, _KnownSession] = OrderedDict()

    async def save(self, session: Session, life_ms: int, most: int) -> int:
        """See the port."""
        ask: dict[str, Any] = {
            "id": session.id,
            "key_digest": session.key_digest,
            "role": session.role,
            "life_ms": life_ms,
            "most": most,
        }
        if session.person is not None:
            ask["person"] = _write_person(session.person)
        _, saved = await self._scripts.write("save_session", ask)
        return int(saved["expires_ms"])

    async def find(self, session_id: str) -> Session | None:
        """See the port. Unknown ids are not kept: each costs the store one reading."""
        known = self._known.get(session_id)
        if known is None or self._now() - known.at_s > FRESH_S:
            try:
                known = await self._look_up(session_id)
            except LedgerUnavailable:
                if known is None or self._now() - known.at_s > STALE_S[known.session.role]:
                    raise
        return known.session if known is not None and known.is_usable(self._now()) else None

    async def end(self, session: Session) -> None:
        """See the port."""
        self._known.pop(session.id, None)
        ask = {"id": session.id, "key_digest": session.key_digest}
        await self._scripts.write("end_session", ask)

    async def _look_up(self, session_id: str) -> _KnownSession | None:
        _, found = await self._scripts.write("find_session", {"id": session_id})
        self._known.pop(session_id, None)
        if "session" not in found:
            return None
        row = orjson.loads(found["session"])
        session = Session(
            session_id,
            row["key_digest"],
            SessionRole(row["role"]),
            int(row["expires_ms"]),
            _read_person(row["person"]) if "person" in row else None,
        )
        known = self._known[session_id] = _KnownSession(session, self._now(), found["now_ms"])
        if len(self._known) > MAX_KNOWN_SESSIONS:
            self._known.popitem(last=False)
        return known


def _write_person(person: SignedInPerson) -> dict[str, Any]:
    """Scopes as one text: an empty list would come back from Lua as an object."""
    row: dict[str, Any] = {
        "name": person.name,
        "terms": person.terms,
        "scopes": " ".join(sorted(person.scopes)),
        "user_created_ms": person.user_created_ms,
    }
    return row if person.team is None else {**row, "team": person.team}


def _read_person(row: dict[str, Any]) -> SignedInPerson:
    scopes = frozenset(AdminScope(scope) for scope in row["scopes"].split())
    created_ms, team = int(row["user_created_ms"]), row.get("team")
    return SignedInPerson(row["name"], row["terms"], scopes, created_ms, team)
