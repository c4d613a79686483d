"""Every key in the store: its name, type, lifetime and owner. No other module spells one.

Names open with the number of this layout, so that another one can live beside it. Keys that change
together share a hash tag (`{…}`), so that each script stays within one cluster slot: the whole
ledger is one tag, each cache entry is a tag of its own, the limits of the provider are a third. A
further provider has the keys of the limiter once more, under a tag of its own (`provider_key`).

`KEYS` is the table; the loader hands it to the scripts as `K`, where a key with a variable part is
the prefix before it. A scope key is `key:<id>`, `user:<name>`, `team:<name>` or `house`. A label
names a window: `2026-11-23` (day) or `2026-11` (month).
"""

from dataclasses import dataclass

DATA_VERSION = 1
"""What the records mean. A store of another version is refused until `koi store upgrade` has made
it this one (decision 45); what only adds fields changes no version."""
FIRST_DATA_VERSION = 1
"""Of a store that does not say which: it is older than this number."""

_ROOT = "koi:1:"
_LEDGER = f"{_ROOT}{{ledger}}:"
_UPSTREAM = f"{_ROOT}{{upstream}}:"
_CACHE = f"{_ROOT}cache:"


@dataclass(frozen=True, slots=True)
class Key:
    """One key or family of keys. `of` names the variable part that follows `name`."""

    noun: str
    name: str
    of: str
    type: str
    lives: str
    owner: str
    holds: str


# fmt: off
KEYS = (
    Key("epoch", f"{_LEDGER}epoch", "", "string", "for ever", "ledger",
        "random name of this store's history; another or none means the data is gone"),
    Key("seq", f"{_LEDGER}seq", "", "string", "for ever", "ledger",
        "rises with every change that must not be lost; a lower one means an old copy"),
    Key("trail", f"{_LEDGER}trail", "", "hash", "for ever", "ledger",
        "the newest 1,024 numbers and what raised them; another id means another history"),
    Key("suspect", f"{_LEDGER}suspect", "", "string", "until rebuilt", "ledger",
        "why every gateway refuses to spend: data is lost, a restore runs, the ledger was moved"),
    Key("lineage", f"{_LEDGER}lineage", "", "hash", "for ever", "ledger",
        "earlier epochs that this one was rebuilt from -> up to which number"),
    Key("data_version", "koi:{ledger}:data_version", "", "string", "for ever", "ledger",
        "which version of Koi's data this store holds; missing in stores of version 1"),
    Key("backup", f"{_LEDGER}backup", "", "hash", "for ever", "ledger",
        "when the latest backup was made, and how big it is"),
    Key("clock", f"{_LEDGER}clock", "", "hash", "for ever", "ledger",
        "newest time seen; host -> its monotonic clock and ours then, so that a step is noticed"),
    Key("job", f"{_LEDGER}job:", "<job id>", "hash",
        "open: for ever; ended: task TTL, with pictures image TTL", "ledger",
        "one request's record and state"),
    Key("due", f"{_LEDGER}due", "", "zset", "for ever", "ledger",
        "open jobs by the time a process must look at them"),
    Key("collect", f"{_LEDGER}collect", "", "zset", "for ever", "ledger",
        "settled jobs with images still to be downloaded, by the time of the next try"),
    Key("open", f"{_LEDGER}open", "", "hash", "for ever", "ledger",
        "open jobs by state, images and micro-units held by all of them; how long a job takes"),
    Key("draft", f"{_LEDGER}draft", "", "stream", "while rebuilding", "ledger",
        "the ledger's entries while a rebuild writes them"),
    Key("stream", f"{_LEDGER}stream", "", "stream", "for ever", "ledger",
        "the ledger's entries: the truth"),
    Key("months", f"{_LEDGER}months", "", "hash", "for ever", "ledger",
        "months whose entries are in files beside the journals, their sums, and up to when"),
    Key("tidied", f"{_LEDGER}tidied", "", "string", "for ever", "ledger",
        "epoch and last entry whose ended job lost what nobody asks for any more"),
    Key("window", f"{_LEDGER}window:", "<label>", "hash", "day +40 days, month +400 days", "ledger",
        "scope key -> 'images micros held_images held_micros', derived from stream and open jobs"),
    Key("windows", f"{_LEDGER}windows", "", "zset", "for ever", "ledger",
        "labels of the windows kept, by their end of life"),
    Key("rollups", f"{_LEDGER}rollups", "", "hash", "for ever", "ledger",
        "up to where hours, days and months are rolled up; when all was last checked"),
    Key("rollup", f"{_LEDGER}rollup:", "<level>:<start>:<view>", "string",
        "hour +40 days, day +400 days, month +10 years", "ledger",
        "sums of the entries of that hour, day or month by group, derived from the stream"),
    Key("pace", f"{_LEDGER}pace:", "<scope key>", "string", "until recovered, <= 1 minute",
        "ledger", "GCRA: theoretical arrival time of the next request, microseconds"),
    Key("image_pace", f"{_LEDGER}image_pace:", "<scope key>", "string",
        "until recovered, <= 1 minute", "ledger",
        "the same for images a minute; only where these are limited"),
    Key("requests", f"{_LEDGER}requests:", "<day>", "hash", "day +1 day", "ledger",
        "scope key -> requests of that day; only where these are limited"),
    Key("attributed", f"{_LEDGER}attributed:", "<month>:<user>", "hash", "month +1 day", "ledger",
        "projects, tags and end users that are told apart, and how many; where requests give any"),
    Key("slots", f"{_LEDGER}slots:", "<scope key>", "zset", "while jobs run", "ledger",
        "concurrency: running jobs by the time their slot lapses"),
    Key("replay", f"{_LEDGER}replay:", "<digest>", "hash", "24 hours", "ledger",
        "Idempotency-Key -> job and digest of the body"),
    Key("replays", f"{_LEDGER}replays:", "<user>", "string", "1 hour", "ledger",
        "how many answers of the cache Idempotency-Keys were bound to"),
    Key("refusals", f"{_LEDGER}refusals:", "<user>", "string", "1 hour", "ledger",
        "how many requests the provider refused without a charge"),
    Key("attempt", f"{_LEDGER}attempt:", "<digest>", "zset", "task TTL; 2 minutes after the end",
        "ledger", "key and body -> the jobs they started lately"),
    Key("jobs", f"{_LEDGER}jobs:", "<user>", "zset", "as its longest job", "ledger",
        "a user's newest 1,000 jobs by creation"),
    Key("upstream", f"{_LEDGER}upstream:", "<provider id>", "string", "task TTL + 1 day", "ledger",
        "provider's task id -> job and part"),
    Key("owner", f"{_LEDGER}owner:", "<picture>", "string", "image TTL", "ledger",
        "picture -> [user, pool]"),
    Key("adjusted", f"{_LEDGER}adjusted:", "<id>", "string", "24 hours", "ledger",
        "correction asked for under an id -> entry and number, so that asking twice corrects once"),
    Key("users", f"{_LEDGER}users", "", "hash", "for ever", "keyring", "name -> record"),
    Key("teams", f"{_LEDGER}teams", "", "hash", "for ever", "keyring", "name -> record"),
    Key("keys", f"{_LEDGER}keys", "", "hash", "for ever", "keyring",
        "key id -> record of a key, an admin key, or an invitation"),
    Key("stops", f"{_LEDGER}stops", "", "hash", "for ever", "keyring",
        "scope key -> whether and why an operator stopped its spending; alert:<id> -> spend alert"),
    Key("digests", f"{_LEDGER}digests", "", "hash", "for ever", "keyring",
        "SHA-256 of a key -> key id"),
    Key("used", f"{_LEDGER}used", "", "hash", "for ever", "keyring",
        "key id -> when it was used last, to the minute"),
    Key("session", f"{_LEDGER}session:", "<SHA-256 of the token>", "string", "12 hours", "keyring",
        "a session of the page: digest of its API key, or the person; role, when it expires"),
    Key("sessions", f"{_LEDGER}sessions:", "<SHA-256 of an API key>", "zset", "12 hours", "keyring",
        "that key's sessions by the time they expire"),
    Key("journals", f"{_LEDGER}journals", "", "hash", "for ever", "ledger",
        "journal's id -> where it is and when it was last written: all that ever wrote"),
    Key("gateways", f"{_LEDGER}gateways", "", "hash", "30 seconds after the last heartbeat",
        "ledger", "gateway process -> its host, its image store and its latest heartbeat"),
    Key("audit", f"{_LEDGER}audit", "", "stream", "the newest 100,000", "keyring",
        "what operators changed, who and why, with old and new values"),
    Key("audit_draft", f"{_LEDGER}audit_draft", "", "stream", "while rebuilding", "keyring",
        "the same while a rebuild writes it"),
    Key("changes", f"{_LEDGER}changes", "", "stream", "the newest 20,000", "ledger",
        "what operators changed, for every gateway to copy into its journal"),
    Key("delivery", f"{_LEDGER}delivery:", "<delivery id>", "hash",
        "while it waits; 3 days after its end", "ledger",
        "a webhook or notice to be posted: where to, about what, and how that went"),
    Key("deliveries", f"{_LEDGER}deliveries:", "<receiver>", "zset", "while some wait", "ledger",
        "the receiver's deliveries by the time of the next try"),
    Key("receivers", f"{_LEDGER}receivers", "", "zset", "while deliveries wait", "ledger",
        "'<user> <origin>' by the time its first delivery is due"),
    Key("undelivered", f"{_LEDGER}undelivered", "", "hash", "for ever", "ledger",
        "user -> how many deliveries wait"),
    Key("delivery_log", f"{_LEDGER}delivery_log:", "<user>", "zset", "6 days after the newest",
        "ledger", "a user's newest 500 deliveries by creation"),
    Key("noticed", f"{_LEDGER}noticed:", "<kind> <subject> <occasion>", "string",
        "the notice's period", "ledger", "the notice was published within its period"),
    Key("ended", f"{_ROOT}ended", "", "channel", "-", "signals", "ids of jobs as they end"),
    Key("callers", f"{_ROOT}callers", "", "channel", "-", "signals",
        "processes ask each other whether callers are still connected, and answer"),
    Key("turns", f"{_UPSTREAM}turns", "", "zset", "1 day", "limiter",
        "requests of the last minute to the provider granted, by the time they may start"),
    Key("submits", f"{_UPSTREAM}submits", "", "zset", "1 day", "limiter",
        "those of them that are no polls"),
    Key("busy", f"{_UPSTREAM}busy", "", "zset", "lease + 1 day", "limiter",
        "slots at the provider, '<job id>:<call>', by the time their lease ends"),
    Key("queue", f"{_UPSTREAM}queue", "", "zset", "while jobs wait", "limiter",
        "jobs that wait for slots, '<slots> <job id>', in order of arrival"),
    Key("waiting", f"{_UPSTREAM}waiting", "", "zset", "while jobs wait", "limiter",
        "the same jobs by the time they leave the queue unless their process asks again"),
    Key("minutes", f"{_UPSTREAM}minutes", "", "hash", "1 minute", "limiter",
        "process -> its requests of the last minute, and when it reported them"),
    Key("health", f"{_UPSTREAM}health", "", "hash", "for ever", "limiter",
        "pause and rate after 429s, refusals of key or balance, how long a slot is held"),
    Key("upstream_clock", f"{_UPSTREAM}clock", "", "hash", "for ever", "limiter",
        "the same as `clock` for the upstream limiter's times"),
    Key("pictures", _CACHE, "{<fingerprint>}:pictures", "hash", "cache TTL", "cache",
        "variant -> pictures made; variant:making -> the job that makes them"),
    Key("starts", _CACHE, "{<fingerprint>}:starts", "zset", "2 seconds", "cache",
        "identical requests that started just now"),
)
# fmt: on

_NAMES = {key.noun: key.name for key in KEYS}

LEDGER_ROUTE = (_NAMES["epoch"],)
"""The declared key of every script of the ledger and key ring: it names their cluster slot."""


def provider_key(name: str, provider: str | None) -> str:
    """A key of the upstream limiter as a further provider has it; None is the main one."""
    tag = "{upstream}" if provider is None else f"{{upstream:{provider}}}"
    return name.replace("{upstream}", tag)


def upstream_route(provider: str | None = None) -> tuple[str]:
    """The same for the scripts of a provider's limiter."""
    return (provider_key(_NAMES["turns"], provider),)


SEQUENCE = _NAMES["seq"]
ENDED_CHANNEL = _NAMES["ended"]
CALLERS_CHANNEL = _NAMES["callers"]


def key(noun: str, of: str = "") -> str:
    """One key of the ledger's; `of` is its variable part."""
    return _NAMES[noun] + of


def cache_keys(fingerprint: str) -> tuple[str, str]:
    """The pictures and the recent starts of one fingerprint."""
    tag = f"{_CACHE}{{{fingerprint}}}"
    return f"{tag}:pictures", f"{tag}:starts"


def lua_table(provider: str | None = None) -> str:
    """`K`: what the scripts call each key; the limiter's are those of a provider."""
    owned = ("ledger", "keyring", "signals", "limiter")
    rows = (f"{k.noun}='{provider_key(k.name, provider)}'" for k in KEYS if k.owner in owned)
    version = f"local DATA_VERSION,FIRST_DATA_VERSION={DATA_VERSION},{FIRST_DATA_VERSION}"
    return f"local K={{{','.join(rows)}}}\n{version}"
