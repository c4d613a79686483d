"""Settings: every bad value is one clear sentence about its variable, and no secret is in it."""

import os
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app import dotenv
from app.adapters.http.urls import parse_url
from app.adapters.redis.client.connection import connect
from app.address_settings import (
    OPTIONS_BY_SCHEME,
    check_http_url,
    check_store_url,
)
from app.domain.limits import Limits
from app.domain.principal import CachePolicy
from app.settings import Settings, build_settings, find_unknown_variables, load_settings
from app.settings_validation import SettingsInvalid


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in find_unknown_variables():
        monkeypatch.delenv(name)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"KOI_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def faults_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[str, ...]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    return caught.value.sentences


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("KOI_PORT", "eighty", "must be a whole number"),
        ("KOI_PORT", "70000", "must be 65535 or less"),
        ("KOI_PORT", "-1", "must be 0 or more"),
        ("KOI_WORKERS", "0", "must be 1 or more"),
        ("KOI_WEBHOOK_HOSTS", "http://hooks.lan", "must be host names"),
        ("KOI_NOTICE_WEBHOOK", "hooks.slack.com", "must be an http(s) URL"),
        ("KOI_NOTICE_WEBHOOK_SECRET", "whsec_short", "must be whsec_ and the base64"),
        ("KOI_WORKERS", "1.5", "must be a whole number"),
        ("KOI_WORKERS", "100000", "must be 128 or less"),
        ("KOI_UPSTREAM_TIMEOUT_S", "soon", "must be a number"),
        ("KOI_UPSTREAM_TIMEOUT_S", "0", "must be more than 0"),
        ("KOI_UPSTREAM_TIMEOUT_S", "inf", "must be a finite number"),
        ("KOI_SYNC_WAIT_S", "nan", "must be a finite number"),
        ("KOI_UPSTREAM_RPM", "0", "must be more than 0"),
        ("KOI_UPSTREAM_MODE", "fast", "must be one of auto, async or sync"),
        ("KOI_CACHE_POLICY", "everyone", "must be one of off, private or shared"),
        ("KOI_LOG_LEVEL", "loud", "must be one of debug, info, warning or error"),
        ("KOI_LOG_FORMAT", "xml", "must be one of json or console"),
        ("KOI_STRICT", "perhaps", "must be one of true or false; for example KOI_STRICT=false"),
        ("KOI_TIMEZONE", "Mars/Olympus", "is not a time zone name such as Asia/Shanghai"),
        ("KOI_DEFAULT_BUDGET_PER_DAY", "a lot", "is not an amount of money"),
        ("KOI_HOUSE_BUDGET_PER_MONTH", "1.0000001", "at most six decimals"),
        ("KOI_HOUSE_BUDGET_PER_DAY", "-1", "is not an amount of money"),
        ("KOI_DEFAULT_IMAGES_PER_DAY", "-3", "must be 0 or more"),
        ("KOI_UPSTREAM_BASE_URL", "open.example.com/v1", "must be an http(s) URL"),
        ("KOI_UPSTREAM_BASE_URL", "http://[", "must be an http(s) URL"),
        ("KOI_PUBLIC_URL", "ftp://files.example.com", "must be an http(s) URL"),
        ("KOI_UPSTREAM_API_KEY", "your_api_key", "put the provider's real key there"),
        ("KOI_UPSTREAM_API_KEY", "sk-abc\ndef", "has a line break inside"),
        ("KOI_UPSTREAM_API_KEY", "sk-abc\r\ndef", "has a line break inside"),
        ("KOI_UPSTREAM_API_KEY", "sk-abc def", "has a blank or control character inside"),
        ("KOI_UPSTREAM_API_KEY", "sk-abc\x1bdef", "has a blank or control character inside"),
        ("KOI_UPSTREAM_API_KEY", "sk-\u0430bc", "has characters outside ASCII"),
        ("KOI_UPSTREAM_API_KEY", "sk-abc…def", "has characters outside ASCII"),
        ("KOI_UPSTREAM_API_KEY", '"Bearer changeme"', "put the provider's real key there"),
        ("KOI_UPSTREAM_BASE_URL", "https://a.example/v1?key=1", "ends in a query or fragment"),
        ("KOI_UPSTREAM_BASE_URL", "https://a.example/v1#top", "ends in a query or fragment"),
        ("KOI_UPSTREAM_BASE_URL", "https://sk-1@a.example/v1", "holds a name or password"),
        ("KOI_UPSTREAM_API_KEY", "   ", "put the provider's real key there"),
        ("KOI_UPSTREAM_API_KEY_FILE", "no-such-file", "names a file that cannot be read"),
        ("KOI_CATALOG", "no-such-file.toml", "names a file that cannot be read"),
        (
            "KOI_NOTICE_WEBHOOK",
            "http://127.0.0.1:99999/x",
            "port that is no number from 1 to 65535",
        ),
        ("KOI_NOTICE_WEBHOOK", "http://[::1/x", "must be an http(s) URL"),
        ("KOI_NOTICE_WEBHOOK", "https://koi:word@hooks.lan/x", "holds a name or password"),
        ("KOI_WEBHOOK_HOSTS", "[::1::2]", "must be host names"),
        ("KOI_UPSTREAM_BASE_URL", "http://127.0.0.1:99999/v1", "port that is no number"),
        ("KOI_UPSTREAM_BASE_URL", "http://127.0.0.1:0/v1", "port that is no number"),
        ("KOI_UPSTREAM_BASE_URL", "http://127.0.0.1:000080/v1", "port that is no number"),
        ("KOI_UPSTREAM_BASE_URL", "https://a..é/v1", "must be an http(s) URL"),
        ("KOI_PUBLIC_URL", "https://koi.example.com:99999", "port that is no number"),
        ("KOI_PUBLIC_URL", "https://koi.example.com:port", "port that is no number"),
        ("KOI_TRUSTED_PROXIES", "banana", "must be addresses or networks"),
        ("KOI_TRUSTED_PROXIES", "127.0.0.1,10.0.0.7:80", "must be addresses or networks"),
        ("KOI_TRUSTED_PROXIES", "10.0.0.7/8", "a network ends in zeros"),
        ("KOI_TRUSTED_PROXIES", "10.0.0.7,*", "* alone for every caller"),
        ("KOI_CORS_ORIGINS", "foo", "must be * or origins"),
        ("KOI_CORS_ORIGINS", "https://a.example,b.example", "must be * or origins"),
        ("KOI_CORS_ORIGINS", "https://a.example/", "without a path or a slash at the end"),
        ("KOI_CORS_ORIGINS", "https://*.example.com", "must be * or origins"),
        ("KOI_CORS_ORIGINS", "http://localhost:99999", "must be * or origins"),
        ("KOI_REDIS_URL", "localhost:6379", "redis://localhost:6379/0"),
        ("KOI_REDIS_URL", "redis://localhost:port", "redis://localhost:6379/0"),
        ("KOI_REDIS_URL", "redis+sentinel://a:26379,b:26379", "redis+sentinel (…/service)"),
        ("KOI_REDIS_URL", "unix://koi.sock", "must be a URL of Redis or Valkey"),
        ("KOI_CACHE_REDIS_URL", "http://cache", "must be a URL of Redis or Valkey"),
        ("KOI_ADMIN_KEY", "changeme", "openssl rand -hex 24"),
        ("KOI_METRICS_TOKEN", "short", "openssl rand -hex 24"),
        ("KOI_CACHE_TTL_S", "90000", "must not outlive KOI_TASK_TTL_S"),
        ("KOI_TASK_TTL_S", "99999999", "must not outlive KOI_IMAGE_TTL_DAYS"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_its_variable_and_the_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    sentences = faults_of(monkeypatch, **{variable: value})

    assert len(sentences) == 1
    assert sentences[0].startswith(variable)
    assert says in sentences[0]
    assert sentences[0].endswith(".")


NUMBERS = [
    name
    for name, field in Settings.model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_with_some_zeros_too_many_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not by a failure of every request, once the store or a calendar cannot hold it."""
    variable = f"KOI_{name.upper()}"

    told = [s for s in faults_of(monkeypatch, **{variable: f"{10**13}"}) if s.startswith(variable)]

    assert "or less" in told[0]


STORE_URLS = [
    "redis://localhost",
    "redis://localhost:",
    "redis://:pa%40ss@store.example.com:6380/2",
    "redis://localhost/0?socket_timeout=5&socket_keepalive=yes&max_connections=9&password=a@b",
    "redis://localhost?decode_responses=True&health_check_interval=30&protocol=3&db=",
    "rediss://user:word@10.0.0.1:6379?ssl_cert_reqs=none",
    "rediss://localhost?ssl_min_version=771&ssl_include_verify_flags=VERIFY_X509_STRICT",
    "redis://[::1]:6379/0",
    "unix:///run/redis.sock?db=1",
    "unix://koi:word@/run/a@b.sock",
    "redis+sentinel://:word@a:26379,b:26379/mymaster/0",
    "rediss+cluster://a:6379,b:6379",
    "redis+cluster://koi:w@rd@[::1]:6379/0",
]


@pytest.mark.parametrize("url", STORE_URLS)
def test_every_kind_of_store_url_is_taken(url: str) -> None:
    assert load_settings(redis_url=url).redis_url == url


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-1", "port", "6379x", "\u0663"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://koi:word@store:PORT/0",
        "rediss://[::1]:PORT",
        "redis+sentinel://a:26379,b:PORT/mymaster",
        "rediss+sentinel://a:PORT/mymaster/0",
        "redis+cluster://koi:word@a:PORT,b:6379",
        "rediss+cluster://a,b:PORT",
    ],
)
@pytest.mark.parametrize("variable", ["KOI_REDIS_URL", "KOI_CACHE_REDIS_URL"])
def test_a_port_that_there_cannot_be_is_refused_in_every_store_url(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, port: str
) -> None:
    [told] = faults_of(monkeypatch, **{variable: url.replace("PORT", port)})

    assert told.startswith(f"{variable} has a port that is no number from 1 to 65535")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+sentinel"])
@pytest.mark.parametrize("mark", ["#", "/", "?", "[", "\uff03"])
@pytest.mark.parametrize("begins", ["SUPER", "123", "1/2"])
def test_a_password_that_is_not_percent_encoded_is_told_and_no_part_of_it_shown(
    monkeypatch: pytest.MonkeyPatch, scheme: str, mark: str, begins: str
) -> None:
    path = "/mymaster" if "sentinel" in scheme else "/0"
    url = f"{scheme}://koi:{begins}{mark}SECRET=1@127.0.0.1:6399{path}"

    [told] = faults_of(monkeypatch, KOI_REDIS_URL=url)

    assert told.startswith("KOI_REDIS_URL ")
    assert "percent-encode the password" in told
    assert not any(part in told for part in ("SUPER", "SECRET", "123"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost/0?foo=1", "has an unknown option 'foo' behind ?"),
        ("redis://localhost/0?socket_timout=1", "has an unknown option 'socket_timout'"),
        ("redis://localhost/0?foo", "has an unknown option 'foo'"),
        ("redis://localhost/0?retry=3", "has an unknown option 'retry'"),
        ("redis://localhost/0?db=first", "has a value of db"),
        ("redis://localhost/0?max_connections=-1", "has a value of max_connections"),
        ("redis://localhost/0?socket_timeout=0", "has a value of socket_timeout"),
        ("redis://localhost/0?timeout=-1", "has a value of timeout"),
        ("redis://localhost/0?socket_read_size=0", "has a value of socket_read_size"),
        ("redis://localhost/0?encoding=utf-16", "has a value of encoding"),
        ("redis://localhost/0?client_name=a%20b", "has a value of client_name"),
        ("redis://localhost/0?protocol=4", "has a value of protocol"),
        ("redis://localhost/0?encoding=klingon", "has a value of encoding"),
        ("redis://localhost/0?ssl_cert_reqs=none", "belongs to rediss://"),
        ("rediss://localhost/0?ssl_cert_reqs=maybe", "has a value of ssl_cert_reqs"),
        ("rediss://localhost/0?ssl_min_version=1.2", "has a value of ssl_min_version"),
        ("rediss://localhost?ssl_exclude_verify_flags=ALL", "has a value of ssl_exclude_verify"),
        ("unix:///run/redis.sock?socket_keepalive=1", "has an unknown option 'socket_keepalive'"),
        ("redis+cluster://a:6379?db=1", "a URL of a cluster or of Sentinel does not take"),
        ("redis+sentinel://a:26379/mymaster?db=1", "a URL of a cluster or of Sentinel"),
    ],
)
def test_an_option_that_the_stores_client_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    [told] = faults_of(monkeypatch, KOI_REDIS_URL=url)

    assert told.startswith("KOI_REDIS_URL ")
    assert says in told


def make_connection(url: str) -> object:
    """As far as it goes without a server."""
    client = connect(url)
    if not isinstance(client, Redis):
        return client
    pool = client.connection_pool
    return pool.connection_class(**pool.connection_kwargs)


def test_every_option_that_is_taken_is_one_of_the_stores_client() -> None:
    seconds = dict.fromkeys(("socket_timeout", "socket_connect_timeout", "timeout"), "0.5")
    counts = ("db", "health_check_interval", "max_connections", "socket_read_size")
    others = {
        **seconds,
        **dict.fromkeys(counts, "7"),
        "protocol": "2",
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "ssl_cert_reqs": "optional",
        "ssl_min_version": "772",
        "ssl_include_verify_flags": "VERIFY_DEFAULT",
        "ssl_exclude_verify_flags": "[VERIFY_DEFAULT, VERIFY_X509_STRICT]",
    }
    for scheme, options in OPTIONS_BY_SCHEME.items():
        for option in options:
            url = f"{scheme}:///koi.sock" if scheme == "unix" else f"{scheme}://localhost"
            url += f"?{option}={others.get(option, 'yes')}"
            assert load_settings(redis_url=url).redis_url == url
            assert make_connection(url)


PIECES = (
    *(
        "redis",
        "unix",
        "+cluster",
        "+sentinel",
        "://",
        "a",
        "koi",
        ":",
        "@",
        "/",
        "?",
        "#",
        "[",
        "]",
    ),
    *(
        "[::1]",
        ",",
        "0",
        "6379",
        "99999",
        "?db=1",
        "&protocol=3",
        "=",
        "%",
        " ",
        "\n",
        "\uff0f",
        "é",
    ),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
@pytest.mark.parametrize("start", ["", "redis://", "rediss://koi:word@", "redis+sentinel://a:1"])
def test_whatever_store_url_is_taken_makes_a_client(start: str, rest: str) -> None:
    url = start + rest
    if [*check_store_url("KOI_REDIS_URL", url)]:
        return

    assert make_connection(url)


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
@settings(max_examples=500, deadline=None)
@pytest.mark.parametrize("start", ["http://", "https://a:", "https://"])
def test_whatever_http_url_is_taken_can_be_called(start: str, rest: str) -> None:
    url = start + rest
    if "@" in url or [*check_http_url("KOI_NOTICE_WEBHOOK", url)]:
        return

    assert parse_url(url)


@pytest.mark.parametrize(
    "taken",
    ["*", " 127.0.0.1, ::1,", "10.0.0.0/8,fd00::/8", "unix:", "127.0.0.1,unix:/run/koi.sock"],
)
def test_proxies_are_addresses_networks_or_everybody(taken: str) -> None:
    assert load_settings(trusted_proxies=taken).trusted_proxies == taken


@pytest.mark.parametrize(
    "taken",
    [
        "*",
        "https://a.example, http://localhost:3000,",
        "http://[::1]:3000",
        "tauri://localhost,chrome-extension://abcdef",
        "null",
        "file://",
    ],
)
def test_origins_are_what_browsers_and_apps_send(taken: str) -> None:
    assert load_settings(cors_origins=taken).cors_origins == taken


@pytest.mark.parametrize("endpoint", ["http://h:99999", "http://[::1", "minio:9000"])
def test_the_endpoint_of_a_bucket_is_judged_where_there_is_a_bucket(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("KOI_S3_ENDPOINT", endpoint)
    assert load_settings().s3_endpoint == endpoint

    [told] = faults_of(monkeypatch, KOI_IMAGE_STORE="s3://pictures")

    assert told.startswith("KOI_S3_ENDPOINT ")


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = faults_of(monkeypatch, KOI_PORT="x", KOI_WORKERS="0", KOI_TIMEZONE="Mars")

    assert [sentence.split()[0].rstrip(":") for sentence in fields] == [
        "KOI_PORT",
        "KOI_WORKERS",
        "KOI_TIMEZONE",
    ]


def test_rules_across_settings_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = faults_of(monkeypatch, KOI_ADMIN_KEY="x", KOI_METRICS_TOKEN="y")

    assert [sentence.split()[0] for sentence in together] == ["KOI_ADMIN_KEY", "KOI_METRICS_TOKEN"]


@pytest.mark.parametrize("name", [f for f in Settings.model_fields if "key" in f or "token" in f])
def test_a_secret_is_in_no_sentence_no_traceback_and_no_repr(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    secret = "tell-no1"
    monkeypatch.setenv(f"KOI_{name.upper()}", secret)
    monkeypatch.setenv("KOI_ADMIN_KEY", secret)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()

    told = [str(caught.value), *caught.value.sentences]
    chained = [caught.value.__cause__, caught.value.__context__]

    assert all(secret not in text for text in told)
    assert chained == [None, None]


def test_secrets_do_not_show_in_the_settings_themselves() -> None:
    settings = load_settings(upstream_api_key="sk-real-one", admin_key="0123456789abcdef")

    assert "sk-real-one" not in repr(settings)
    assert "0123456789abcdef" not in str(settings)


def test_the_environment_is_read_and_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOI_PORT", "9001")
    monkeypatch.setenv("KOI_WORKERS", "3")

    settings = load_settings(port=9002)

    assert (settings.port, settings.workers) == (9002, 3)


def test_a_dotenv_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KOI_PORT=9003\nOTHER=1\n")

    assert load_settings().port == 9003


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o622])
def test_a_dotenv_file_that_others_can_write_is_not_read_and_says_so(
    tmp_path: Path, mode: int
) -> None:
    file = tmp_path / ".env"
    file.write_text("KOI_PORT=9003\n")
    file.chmod(mode)

    assert load_settings().port == 8000
    assert "others can write it" in (dotenv.find_distrust_reason() or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_dotenv_file_of_somebody_else_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("KOI_PORT=9003\n")
    os.chown(file, 12345, 12345)

    assert load_settings().port == 8000
    assert "another user" in (dotenv.find_distrust_reason() or "")


@pytest.mark.parametrize("url", ["http://provider.example/v1", "http://10.0.0.7:8080/v1"])
def test_an_upstream_over_plain_http_beyond_this_machine_wants_to_be_allowed(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="KOI_ALLOW_PLAIN_UPSTREAM=true"):
        load_settings(upstream_base_url=url)

    assert load_settings(upstream_base_url=url, allow_plain_upstream=True).upstream_base_url == url
    assert load_settings(upstream_base_url="http://127.0.0.1:9000/v1").port == 8000


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOI_ADMIN_KEY", "")
    monkeypatch.setenv("KOI_PORT", "")

    settings = load_settings()

    assert settings.admin_key is None
    assert settings.port == 8000


def test_fixed_settings_are_deaf_to_the_environment_and_to_dotenv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KOI_UPSTREAM_API_KEY", "sk-real-one")
    monkeypatch.setenv("KOI_PORT", "not a port")
    (tmp_path / ".env").write_text("KOI_REDIS_URL=redis://real.example.com\n")

    settings = build_settings(data_dir=tmp_path)

    assert (settings.upstream_key, settings.redis_url, settings.port) == (None, None, 8000)


def test_the_upstream_key_comes_from_the_variable_or_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  sk-from-file\n")

    assert load_settings(upstream_api_key_file=file).upstream_key == "sk-from-file"
    assert load_settings(upstream_api_key="sk-direct").upstream_key == "sk-direct"
    assert load_settings().upstream_key is None


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOI_UPSTREAM_APIKEY", "x")
    monkeypatch.setenv("KOI_PORT", "8000")

    assert find_unknown_variables() == {"KOI_UPSTREAM_APIKEY": "KOI_UPSTREAM_API_KEY"}


def test_what_kubernetes_sets_for_a_service_named_koi_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links = {
        "KOI_PORT": "tcp://10.0.3.7:80",
        "KOI_PORT_80_TCP": "tcp://10.0.3.7:80",
        "KOI_PORT_80_TCP_ADDR": "10.0.3.7",
        "KOI_SERVICE_HOST": "10.0.3.7",
        "KOI_SERVICE_PORT": "80",
        "KOI_SERVICE_PORT_HTTP": "80",
    }
    for name, value in links.items():
        monkeypatch.setenv(name, value)

    assert load_settings().port == 8000
    assert find_unknown_variables() == {}


def test_money_settings_become_micro_units() -> None:
    settings = load_settings(default_budget_per_day="12.50", house_budget_per_month="0.000001")

    assert settings.default_limits == Limits(micros_per_day=12_500_000, requests_per_minute=120)
    assert settings.house_limits == Limits(micros_per_month=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 8000), ("cache_policy", CachePolicy.PRIVATE), ("data_dir", Path(".koi"))],
)
def test_defaults_are_those_of_the_design(name: str, value: Any) -> None:
    assert getattr(load_settings(), name) == value


def test_settings_cannot_be_changed_once_read() -> None:
    settings = load_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


PASTED = (
    "sk-real-one",
    "  sk-real-one\n",
    '"sk-real-one"',
    "'sk-real-one'",
    "\u201csk-real-one\u201d",
    "Bearer sk-real-one",
    "bearer   sk-real-one",
    "'Bearer sk-real-one' ",
    'Bearer "sk-real-one"',
    "Authorization: Bearer sk-real-one",
    "\ufeffsk-real-one\r\n",
)


@pytest.mark.parametrize("pasted", PASTED)
def test_an_upstream_key_is_used_without_what_was_pasted_around_it(
    pasted: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(pasted, encoding="utf-8")

    assert load_settings(upstream_api_key=pasted).upstream_key == "sk-real-one"
    assert load_settings(upstream_api_key_file=file).upstream_key == "sk-real-one"


def test_an_upstream_key_in_a_file_is_judged_alike(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-one\nsk-two\n", encoding="utf-8")

    with pytest.raises(SettingsInvalid) as caught:
        load_settings(upstream_api_key_file=file)

    assert caught.value.sentences == (
        "KOI_UPSTREAM_API_KEY_FILE has a line break inside; put the key alone on one line.",
    )


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-geheim-é", "sk-geheim x"])
def test_no_sentence_about_a_key_quotes_it(key: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(upstream_api_key=key)

    assert not any(part in str(caught.value) for part in ("sk-one", "geheim"))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://a.example", "https://a.example/v1"),
        ("https://a.example/", "https://a.example/v1"),
        (" https://a.example/v1/ ", "https://a.example/v1"),
        ('"https://a.example/v1"', "https://a.example/v1"),
        ("https://a.example/v1/images/generations", "https://a.example/v1"),
        ("https://a.example/images/generations/", "https://a.example/v1"),
        ("https://a.example/v1/chat/completions", "https://a.example/v1"),
        ("https://a.example/openai/v2", "https://a.example/openai/v2"),
    ],
)
def test_a_base_url_is_corrected_where_its_meaning_is_plain(given: str, used: str) -> None:
    assert load_settings(upstream_base_url=given).upstream_base_url == used
