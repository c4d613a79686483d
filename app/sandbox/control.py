"""The control routes under /__sim/, for tests in other processes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, TypeAlias

from app.sandbox.exchange import Exchange
from app.sandbox.faults import FAULTS
from app.sandbox.fees import fee_details
from app.sandbox.profiles import PROFILES
from app.sandbox.provider import Provider

Asked: TypeAlias = dict[str, Any]
_FEES = ("GET", "/__sim/ledger", "format=csv")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


async def control(exchange: Exchange, provider: Provider) -> None:
    """Answers one control call, from loopback addresses only."""
    if exchange.peer not in _LOOPBACK:
        await exchange.json(403, {"error": "control is for loopback peers"})
        return
    if (exchange.method, exchange.path, exchange.query) == _FEES:
        await exchange.reply(200, fee_details(provider.bill()).encode(), "text/csv; charset=utf-8")
        return
    route = _ROUTES.get((exchange.method, exchange.path.removeprefix("/__sim/")))
    if route is None:
        await exchange.json(404, {"error": "no such control", "routes": _route_names()})
        return
    try:
        asked = json.loads(await exchange.read(1_000_000) or b"{}")
        answer = route(provider, asked)
    except (ValueError, KeyError, TypeError) as error:
        await exchange.json(400, {"error": str(error)})
        return
    await exchange.json(200, answer)


def state_of(provider: Provider) -> Asked:
    """Counters and settings."""
    return {
        "profile": provider.profile.name,
        "switches": asdict(provider.switches),
        "posts": provider.posts,
        "polls": provider.polls,
        "script_left": provider.script_left(),
        "billed_images": sum(line.billed for line in provider.bill()),
        "cdn_port": provider.cdn_port,
        "time_scale": provider.time_scale,
    }


def _reset(provider: Provider, _asked: Asked) -> Asked:
    provider.reset()
    return state_of(provider)


def _profile(provider: Provider, asked: Asked) -> Asked:
    provider.set_profile(asked["name"])
    return state_of(provider)


def _script(provider: Provider, asked: Asked) -> Asked:
    provider.script(*asked["faults"])
    return state_of(provider)


def _switches(provider: Provider, asked: Asked) -> Asked:
    provider.set_switches(**asked)
    return state_of(provider)


def _expire(provider: Provider, _asked: Asked) -> Asked:
    provider.expire_links()
    return state_of(provider)


def _mend(provider: Provider, _asked: Asked) -> Asked:
    provider.mend()
    return state_of(provider)


def _advance(provider: Provider, asked: Asked) -> Asked:
    provider.advance(float(asked["seconds"]))
    return state_of(provider)


def _state(provider: Provider, _asked: Asked) -> Asked:
    return state_of(provider)


def _ledger(provider: Provider, _asked: Asked) -> Asked:
    lines = provider.bill()
    return {
        "billed_images": sum(line.billed for line in lines),
        "lines": [asdict(line) for line in lines],
    }


def _registry(_provider: Provider, _asked: Asked) -> Asked:
    rows = [
        {"name": row.name, "place": row.place, "bills": row.bills, "says": row.says}
        for row in FAULTS.values()
    ]
    return {"faults": rows, "profiles": list(PROFILES)}


def _requests(provider: Provider, _asked: Asked) -> Asked:
    kept = list(provider.requests)
    return {"requests": [asdict(r) | {"body": r.body.decode("latin-1")} for r in kept]}


_ROUTES: Mapping[tuple[str, str], Callable[[Provider, Asked], Asked]] = MappingProxyType(
    {
        ("POST", "reset"): _reset,
        ("POST", "profile"): _profile,
        ("POST", "faults"): _script,
        ("GET", "faults"): _registry,
        ("POST", "switches"): _switches,
        ("POST", "expire_links"): _expire,
        ("POST", "mend"): _mend,
        ("POST", "advance"): _advance,
        ("GET", "state"): _state,
        ("GET", "ledger"): _ledger,
        ("GET", "requests"): _requests,
    }
)


def _route_names() -> list[str]:
    return [f"{method} /__sim/{name}" for method, name in _ROUTES]
