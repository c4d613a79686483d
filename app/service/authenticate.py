"""From a bearer secret to the principal it stands for."""

from collections import OrderedDict
from collections.abc import Awaitable

from app.domain.administration import ProjectArchived
from app.domain.errors import InvalidApiKey
from app.domain.limits import Limits
from app.domain.ports import KeyRing
from app.domain.principal import (
    ApiKey,
    CachePolicy,
    Principal,
    Team,
    User,
    build_scopes,
    is_enabled,
)
from app.domain.secret_digest import digest_secret

MAX_PRINCIPALS = 10_000
KeyIdentity = tuple[ApiKey, User, Team | None]


class Authenticate:
    """`house` limits the whole deployment; `cache` applies to users without a policy of their
    own."""

    def __init__(self, keyring: KeyRing, house: Limits, cache: CachePolicy) -> None:
        self._keyring, self._house, self._cache = keyring, house, cache
        self._principals: OrderedDict[str, tuple[KeyIdentity, Principal]] = OrderedDict()
        """The latest principals, each with the records that it was made from."""

    def __call__(self, secret: str) -> Awaitable[Principal]:
        """The principal of a secret.

        Raises `InvalidApiKey`, with one text for every reason (unknown, expired or revoked key,
        disabled or deleted user or team); the reason itself is for the log. `ProjectArchived` for
        a team that was put away.
        """
        return self.by_digest(digest_secret(secret))

    async def by_digest(self, digest: str) -> Principal:
        """The same for the SHA-256 (hex) of a secret, by which a session names its key."""
        known = await self._keyring.authenticate(digest)
        if known is None:
            raise InvalidApiKey(*self._keyring.refusal_reason(digest))
        kept = self._principals.get(digest)
        if kept is not None and kept[0] is known:
            return kept[1]
        key, user, team = known
        if is_enabled(user) and team is not None and team.archived_ms and team.deleted_ms is None:
            raise ProjectArchived(key.id)
        for noun, holder in (("user", user), ("team", team)):
            if holder is not None and not is_enabled(holder):
                raise InvalidApiKey(f"{noun}_{_state_word(holder)}", key.id)
        principal = self._build_principal(key, user, team)
        self._principals[digest] = known, principal
        if len(self._principals) > MAX_PRINCIPALS:
            self._principals.popitem(last=False)
        return principal

    def _build_principal(self, key: ApiKey, user: User, team: Team | None) -> Principal:
        return Principal(
            key_id=key.id,
            user=user.name,
            team=team.name if team is not None else None,
            scopes=build_scopes(self._house, key=key, user=user, team=team),
            cache=user.cache or self._cache,
            models=_allowed_models(key, team),
            denied_models=frozenset() if team is None else team.denied_models,
            response_format=key.response_format or user.response_format,
            webhook=key.webhook or user.webhook,
            forwards_users=key.forwards_users,
            since_ms=user.reused_ms or 0,
        )


def _allowed_models(key: ApiKey, team: Team | None) -> frozenset[str] | None:
    """What both the key and its team allow; None is every enabled model."""
    if team is None or team.models is None:
        return key.models
    return team.models if key.models is None else key.models & team.models


def _state_word(holder: User | Team) -> str:
    return "disabled" if holder.deleted_ms is None else "deleted"
