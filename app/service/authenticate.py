"""From a bearer secret to the principal it stands for."""

import hashlib

from app.domain.errors import InvalidApiKey
from app.domain.limits import Limits, Scope, ScopeKind
from app.domain.ports import KeyRing
from app.domain.principal import ApiKey, CachePolicy, Principal, Team, User, is_enabled


def _state_word(holder: User | Team) -> str:
    return "disabled" if holder.deleted_ms is None else "deleted"


class Authenticate:
    def __init__(self, keyring: KeyRing, house: Limits, cache: CachePolicy) -> None:
        self._keyring = keyring
        self._house = Scope(ScopeKind.HOUSE, "house", house)
        self._cache = cache

    async def __call__(self, secret: str) -> Principal:
        """Raises `InvalidApiKey`, the same for unknown, expired and revoked keys and for those of
        a user or team that is disabled or deleted."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        known = await self._keyring.authenticate(digest)
        if known is None:
            raise InvalidApiKey(*self._keyring.refusal_reason(digest))
        key, user, team = known
        for noun, holder in (("user", user), ("team", team)):
            if holder is not None and not is_enabled(holder):
                raise InvalidApiKey(f"{noun}_{_state_word(holder)}", key.id)
        return self.principal(key, user, team)

    def principal(self, key: ApiKey, user: User, team: Team | None) -> Principal:
        scopes = [
            Scope(ScopeKind.KEY, key.id, key.limits),
            Scope(ScopeKind.USER, user.name, user.limits),
        ]
        if team is not None:
            scopes.append(Scope(ScopeKind.TEAM, team.name, team.limits))
        return Principal(
            key_id=key.id,
            user=user.name,
            team=team.name if team is not None else None,
            scopes=(*scopes, self._house),
            cache=user.cache or self._cache,
            models=key.models,
            response_format=key.response_format or user.response_format,
        )
