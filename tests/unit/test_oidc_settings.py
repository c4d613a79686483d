"""Settings of sign-in by an OpenID provider: what is refused at the start, how roles read."""

from pathlib import Path
from typing import Any

import pytest

from app.domain.administration import AdminScope
from app.domain.session import SessionRole
from app.domain.sign_in import find_grant, parse_roles
from app.settings import build_settings
from app.settings_validation import SettingsInvalid

WHOLE: dict[str, Any] = {
    "oidc_issuer": "https://id.example.com/realms/corp",
    "oidc_client_id": "koi",
    "oidc_client_secret": "secret-of-the-client",
    "oidc_roles": "groups:ops=operator",
    "public_url": "https://koi.example.com",
}


def test_a_whole_set_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    assert build_settings(**WHOLE).oidc_secret == "secret-of-the-client"
    from_file = {**WHOLE, "oidc_client_secret": None, "oidc_client_secret_file": file}
    assert build_settings(**from_file).oidc_secret == "from-a-file"
    here = {"oidc_issuer": "http://127.0.0.1:9", "public_url": "http://localhost:8"}
    assert build_settings(**{**WHOLE, **here}).oidc_issuer == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"oidc_issuer": "http://id.example.com"}, "must be the provider's https URL"),
        ({"oidc_issuer": "http://127.0.0.1.evil.example"}, "must be the provider's https URL"),
        ({"oidc_issuer": "https://a:b@id.example.com"}, "must be the provider's https URL"),
        ({"oidc_issuer": "https://id.example.com?x=1"}, "must be the provider's https URL"),
        ({"oidc_issuer": "https://id.example.com:99999"}, "port that is no number"),
        ({"oidc_issuer": "https://[::1"}, "must be an http"),
        ({"public_url": None}, "needs KOI_PUBLIC_URL"),
        ({"public_url": "http://koi.example.com"}, "needs KOI_PUBLIC_URL"),
        ({"oidc_client_id": None}, "needs KOI_OIDC_CLIENT_ID"),
        ({"oidc_client_secret": None}, "needs KOI_OIDC_CLIENT_SECRET"),
        ({"oidc_client_secret_file": Path("/nowhere")}, "cannot be read"),
        ({"oidc_scopes": "email"}, "must have openid"),
        ({"oidc_roles": ""}, "needs KOI_OIDC_ROLES"),
        ({"oidc_roles": "groups:ops=root"}, "must be rules such as"),
        ({"oidc_roles": "ops=operator"}, "must be rules such as"),
        ({"oidc_roles": "groups:ops"}, "must be rules such as"),
        ({"oidc_roles": "groups:=member"}, "must be rules such as"),
        ({"oidc_roles": "groups:ops=member/read"}, "must be rules such as"),
        ({"oidc_roles": "groups:ops=operator/write"}, "knows the scopes"),
        ({"console": False}, "needs the page"),
    ],
)
def test_what_is_missing_or_unsafe_stops_the_start(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says) as refused:
        build_settings(**{**WHOLE, **change})
    assert "secret-of-the-client" not in str(refused.value)


def test_without_an_issuer_nothing_is_asked() -> None:
    assert build_settings(oidc_roles="nonsense").oidc_issuer is None


def test_rules_add_up_and_an_operator_is_no_member() -> None:
    rules = parse_roles(
        " groups:finance = operator/money , https://corp/roles:people=operator/people+read,"
        "groups:all=member"
    )
    both = {"groups": ["finance", "all"], "https://corp/roles": "people"}
    grant = find_grant(rules, both)
    assert grant is not None
    assert grant.role is SessionRole.OPERATOR
    assert grant.scopes == {AdminScope.MONEY, AdminScope.PEOPLE, AdminScope.READ}
    member = find_grant(rules, {"groups": ["all"]})
    assert member is not None
    assert (member.role, member.scopes) == (SessionRole.HOLDER, frozenset())
    for claims in ({}, {"groups": "al"}, {"groups": {"all": 1}}, {"groups": [["all"]]}):
        assert find_grant(rules, claims) is None


def test_a_team_admin_is_held_to_the_first_team_and_an_operator_to_none() -> None:
    rules = parse_roles(
        "groups:ops=operator/read,groups:reds=team_admin/red,groups:leads=team_admin,groups:all=member"
    )

    def team_of(*groups: str) -> tuple[str | None, bool]:
        grant = find_grant(rules, {"groups": list(groups)})
        assert grant is not None
        return grant.team, AdminScope.ALL in grant.scopes

    assert team_of("all", "leads", "reds") == ("red", False)
    assert team_of("all", "leads") == ("", False)
    assert team_of("reds", "ops") == (None, False)
