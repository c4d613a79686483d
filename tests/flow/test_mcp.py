"""/mcp as the official SDK's client meets it: a gateway on a real socket, the sandbox behind it."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.api.mcp.protocol import VERSIONS
from app.domain.attribution import Attribution
from app.domain.limits import Limits
from app.domain.principal import CachePolicy
from app.sandbox.server import Sandbox
from tests.faultproxy import FaultProxy
from tests.flow.test_generate import picture_of
from tests.harness import PRICED, Koi, gateway, quick_sandbox
from tests.linkfaults import reset
from tests.security.test_roles import PAINTER

SLOW_S = 1.0
JSON_ONLY = {"accept": "application/json"}


@pytest.fixture(scope="module")
def house(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    """One gateway for all; each test brings its own user and prompt."""
    provider.reset()
    with (
        EmbeddedStore(tmp_path_factory.mktemp("mcp-store")) as store,
        gateway(provider, store.url, tmp_path_factory.mktemp("mcp"), mcp=True) as koi,
    ):
        yield koi
        koi.assert_ledger_matches_bill()


@contextlib.contextmanager
def another(directory: Path, **settings: Any) -> Iterator[tuple[Koi, "Wire"]]:
    """A gateway with other settings, a store and a provider of its own."""
    with (
        quick_sandbox() as sandbox,
        EmbeddedStore(directory / "store") as store,
        gateway(sandbox, store.url, directory / "koi", **settings) as koi,
    ):
        wire = Wire(koi, koi.key())
        with wire.client:
            yield koi, wire
        koi.assert_ledger_matches_bill()


@pytest.fixture
def slow(house: Koi) -> Iterator[None]:
    house.sandbox.set(latency_s=SLOW_S)
    yield
    house.sandbox.set(latency_s=None)


@contextlib.asynccontextmanager
async def connected(url: str, key: str, mode: Any = "auto") -> AsyncIterator[Any]:
    """The SDK is imported here: it takes its time, and each worker imports this module."""
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async with create_mcp_http_client({"authorization": f"Bearer {key}"}) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def task_of(result: Any) -> str:
    (line,) = (line for line in text_of(result).splitlines() if line.startswith("task: "))
    return line.removeprefix("task: ")


def links_of(result: Any) -> list[str]:
    return [str(block.uri) for block in result.content if block.type == "resource_link"]


def error_of(result: Any) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is not None
    error: dict[str, Any] = result.structured_content["error"]
    assert text_of(result) == f"{error['code']}: {error['message']}"
    return error


class Wire:
    """Messages by hand, for what an SDK does not send."""

    def __init__(self, koi: Koi, key: str) -> None:
        self.url = f"{koi.url}/mcp"
        self.client = httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=20)

    def send(self, method: str, id: Any = 1, headers: Any = None, **params: Any) -> httpx.Response:
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        return self.client.post(self.url, json=message, headers=headers)

    def generate(self, id: Any = 1, headers: Any = None, **arguments: Any) -> Any:
        return self.call("generate_image", id, headers, **arguments)

    def call(self, tool: str, id: Any = 1, headers: Any = None, **arguments: Any) -> Any:
        """The result of a call by a client that takes no events."""
        sent = {**JSON_ONLY, **(headers or {})}
        answer = self.send("tools/call", id, sent, name=tool, arguments=arguments)
        assert answer.headers["content-type"] == "application/json"
        return answer.json()["result"]


@pytest.fixture
def wire(house: Koi) -> Iterator[Wire]:
    wire = Wire(house, house.key("wire"))
    with wire.client:
        yield wire


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_model_gets_its_picture_its_link_its_cost_and_its_progress(
    house: Koi, slow: None, mode: str
) -> None:
    told: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        told.append(value)

    house.sandbox.set(latency_s=2.5 if mode == "auto" else None)
    async with connected(house.url, house.key("ann"), mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool(
            "generate_image",
            {"prompt": f"a koi, {mode}", "size": "1536x1024", "max_cost": "0.14"},
            progress_callback=progress,
        )

    (image,) = (block for block in result.content if block.type == "image")
    (link,) = links_of(result)
    body = base64.b64decode(image.data)
    assert tools == {"generate_image", "get_task", "get_usage"}
    assert not result.is_error
    assert picture_of(body).size == (1536, 1024)
    assert httpx.get(link).content == body
    assert image.mime_type == "image/jpeg"
    assert link in text_of(result)
    assert "cost: 0.14 CNY" in text_of(result)
    assert len(told) >= (2 if mode == "auto" else 1)
    assert told == sorted(set(told))
    # Claude Code and Codex would show a model nothing else.
    assert result.structured_content is None


def test_a_call_may_have_a_tag_and_a_bad_one_buys_nothing(house: Koi, wire: Wire) -> None:
    before = house.sandbox.posts
    refused = wire.generate(1, {"x-koi-tag": "a,b"}, prompt="a tagged koi")
    made = wire.generate(2, {"x-koi-tag": "agent"}, prompt="a tagged koi")
    house.settled()

    assert refused["isError"]
    assert "x-koi-tag" in refused["content"][0]["text"]
    assert not made.get("isError")
    assert house.sandbox.posts == before + 1
    assert house.entries()[-1].attribution == Attribution(tag="agent")


async def test_a_task_and_the_usage_are_read_free_of_charge(house: Koi) -> None:
    async with connected(house.url, house.key("bob")) as client:
        made = await client.call_tool("generate_image", {"prompt": "for bob", "n": 2})
        task = await client.call_tool("get_task", {"task_id": task_of(made), "wait": 5})
        usage = await client.call_tool("get_usage")
    async with connected(house.url, house.key("eve")) as client:
        foreign = await client.call_tool("get_task", {"task_id": task_of(made)})

    assert [block.type for block in task.content].count("image") == 2
    assert json.loads(task.content[0].text)["status"] == "completed"
    assert "cost: 0.28 CNY" in text_of(made)
    assert usage.structured_content is not None
    assert usage.structured_content["user"] == "bob"
    used = [one for one in usage.structured_content["limits"] if one["meter"] == "images"]
    assert used[0]["used"] == 2
    assert error_of(foreign)["code"] == "task_not_found"


@pytest.mark.parametrize(
    ("arguments", "code", "param"),
    [
        ({"prompt": "x", "max_cost": "0.13"}, "invalid_value", "max_cost"),
        ({"prompt": "x", "n": 3, "max_cost": "0.41"}, "invalid_value", "max_cost"),
        ({"prompt": "x", "quality": "hd", "max_cost": "0.14"}, "invalid_value", "max_cost"),
        ({"prompt": "x", "max_cost": "cheap"}, "invalid_value", "max_cost"),
        ({"prompt": "x", "max_price": "0.01"}, "unknown_parameter", "max_price"),
        ({"prompt": "x", "model": "gpt-4o"}, "model_not_found", "model"),
        ({"prompt": "x", "n": 99}, "integer_above_max_value", "n"),
        ({}, "missing_required_parameter", "prompt"),
    ],
)
async def test_what_is_refused_says_why_and_buys_nothing(
    house: Koi, arguments: dict[str, Any], code: str, param: str
) -> None:
    before = house.sandbox.posts
    async with connected(house.url, house.key("cat"), "legacy") as client:
        result = await client.call_tool("generate_image", arguments)

    assert (error_of(result)["code"], error_of(result)["param"]) == (code, param)
    assert house.sandbox.posts == before


async def test_a_failure_has_the_code_of_the_rest_api_and_its_task(house: Koi) -> None:
    async with connected(house.url, house.key("dan"), "legacy") as client:
        refused = await client.call_tool("generate_image", {"prompt": "koi [fault:moderation-400]"})

    assert error_of(refused)["code"] == "content_policy_violation"
    assert error_of(refused)["task_id"].startswith("task_")
    assert error_of(refused)["should_retry"] is False


async def test_a_used_up_limit_is_told_to_the_model(house: Koi) -> None:
    house.operate(
        lambda operator: operator.keys.create_user("few", limits=Limits(images_per_day=1))
    )
    async with connected(house.url, house.key("few"), "legacy") as client:
        first = await client.call_tool("generate_image", {"prompt": "the only one"})
        again = await client.call_tool("generate_image", {"prompt": "the only one"})
        second = await client.call_tool("generate_image", {"prompt": "one too many"})

    assert not first.is_error
    # The same question is no other picture.
    assert task_of(again) == task_of(first)
    assert error_of(second)["code"] == "insufficient_quota"


async def test_a_cut_stream_is_taken_up_again_by_the_client_itself(house: Koi, slow: None) -> None:
    """The SDK connects again with the id of the last event it saw: one POST to the provider."""
    before, resumed = house.sandbox.posts, count(house, "GET", 200)
    house.sandbox.set(latency_s=5)
    told: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        told.append(value)

    with FaultProxy(house.url) as link:
        async with connected(link.url, house.key("fay")) as client:
            call = asyncio.create_task(
                client.call_tool("generate_image", {"prompt": "cut"}, progress_callback=progress)
            )
            await until_posted(house, before + 1)
            async with asyncio.timeout(10):
                while not told:  # an event, after which the client can go on
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(cut, link)
            async with asyncio.timeout(10):
                while len(told) < 2:  # it went on
                    await asyncio.sleep(0.01)
            house.sandbox.advance(5)
            result = await asyncio.wait_for(call, 20)

    assert not result.is_error
    assert len(links_of(result)) == 1
    assert "cost: 0.14 CNY" in text_of(result)
    assert house.sandbox.posts == before + 1
    assert count(house, "GET", 200) == resumed + 1
    assert len(told) >= 2
    assert told == sorted(set(told))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_repeated_after_a_broken_stream_joins_its_job(
    house: Koi, slow: None, mode: str
) -> None:
    """As an agent does it: the call fails or is given up, and the model makes the same call again,
    with another id, in this session or in the next."""
    before = house.sandbox.posts
    house.sandbox.set(latency_s=5)
    key, arguments = house.key(f"gus-{mode}"), {"prompt": "repeated"}

    from mcp import MCPError

    async def broken() -> None:
        with FaultProxy(house.url) as link:
            async with connected(link.url, key, mode) as client:
                call = asyncio.create_task(client.call_tool("generate_image", arguments))
                await until_posted(house, before + 1)
                await asyncio.to_thread(link.set, reset())
                await asyncio.wait_for(call, 10)

    with pytest.raises((MCPError, TimeoutError, ExceptionGroup)):
        await broken()
    async with connected(house.url, key, mode) as client:
        repeat = asyncio.create_task(client.call_tool("generate_image", arguments))
        await asyncio.sleep(0.3)
        house.sandbox.advance(5)
        result = await asyncio.wait_for(repeat, 20)

    assert not result.is_error
    assert "cost: 0.14 CNY" in text_of(result)
    assert house.sandbox.posts == before + 1


async def test_a_call_that_its_client_gives_up_goes_on_and_is_joined(
    house: Koi, slow: None
) -> None:
    from mcp import MCPError

    before = house.sandbox.posts
    async with connected(house.url, house.key("hal"), "legacy") as client:
        with pytest.raises(MCPError):
            await client.call_tool("generate_image", {"prompt": "slow"}, read_timeout_seconds=0.3)
        result = await client.call_tool("generate_image", {"prompt": "slow"})

    assert not result.is_error
    assert house.sandbox.posts == before + 1


async def test_the_same_call_twice_at_once_is_one_job(house: Koi, slow: None) -> None:
    """Who wants several pictures says `n`; a call that waits beside its own repeat is one."""
    before = house.sandbox.posts
    async with connected(house.url, house.key("ivy"), "legacy") as client:
        calls = [client.call_tool("generate_image", {"prompt": "twice"}) for _ in range(2)]
        first, second = await asyncio.gather(*calls)

    assert task_of(first) == task_of(second)
    assert house.sandbox.posts == before + 1


async def test_the_same_call_right_after_its_answer_is_answered_alike(house: Koi) -> None:
    """The SDK hangs up as soon as it has read the result, so nothing says that it came whole: the
    same call is a repeat, also where no cache would answer it."""
    before = house.sandbox.posts
    house.operate(lambda operator: operator.keys.create_user("jon", cache=CachePolicy.OFF))
    async with connected(house.url, house.key("jon"), "legacy") as client:
        first = await client.call_tool("generate_image", {"prompt": "anew"})
        again = await client.call_tool("generate_image", {"prompt": "anew"})
        other = await client.call_tool("generate_image", {"prompt": "anew", "n": 2})

    assert task_of(first) == task_of(again) != task_of(other)
    assert len(links_of(other)) == 2
    assert house.sandbox.posts == before + 2


def test_a_program_may_name_its_call_itself(house: Koi, wire: Wire) -> None:
    meta = {"koi/idempotency-key": "order-1"}
    params = {"name": "generate_image", "_meta": meta}
    answers = [
        wire.send("tools/call", id, JSON_ONLY, arguments={"prompt": prompt}, **params).json()
        for id, prompt in ((1, "named"), (2, "named"), (3, "other"))
    ]

    first, second, other = (answer["result"] for answer in answers)
    assert line_of(first, "task: ") == line_of(second, "task: ")
    assert other["structuredContent"]["error"]["code"] == "idempotency_key_reuse"


def line_of(result: Any, start: str) -> str:
    lines = result["content"][0]["text"].splitlines()
    return str(next(line for line in lines if line.startswith(start)))


def test_a_large_picture_comes_as_its_preview_or_as_its_link_only(tmp_path: Path) -> None:
    """Which of both is a matter of bytes: a preview has 768 pixels."""
    newest = {"mcp-protocol-version": "2025-11-25"}
    with another(tmp_path / "kb", mcp=True, mcp_image_kb=1) as (_, wire):
        nothing_fits = wire.generate(headers=newest, prompt="large")
    with another(tmp_path / "more", mcp=True) as (_, wire):
        made = wire.generate(prompt="large", size="1536x1024")
        (whole,) = (block for block in made["content"] if block["type"] == "image")
        bytes_of_it = len(base64.b64decode(whole["data"]))
    with another(tmp_path / "less", mcp=True, mcp_image_kb=(bytes_of_it - 1) >> 10) as (_, wire):
        made = wire.generate(headers=newest, prompt="large", size="1536x1024")
    text, preview, link = made["content"]

    assert [block["type"] for block in nothing_fits["content"]] == ["text", "resource_link"]
    assert "too large" in nothing_fits["content"][0]["text"]
    assert preview["mimeType"] == "image/webp"
    assert picture_of(base64.b64decode(preview["data"])).size == (768, 512)
    assert link["type"] == "resource_link"
    assert "too large" not in text["text"]


def test_who_waits_too_long_is_told_to_ask_for_the_task(tmp_path: Path) -> None:
    with another(tmp_path, mcp=True, sync_wait_s=0.5) as (koi, wire):
        koi.sandbox.set(latency_s=SLOW_S)
        waited = wire.generate(1, prompt="patience")
        joined = wire.generate(2, prompt="patience")
        task_id = waited["content"][0]["text"].split()[2]
        read = wire.call("get_task", task_id=task_id, wait=20)
        posts = koi.sandbox.posts

    assert (waited["isError"], joined["isError"], read["isError"]) == (False, False, False)
    assert task_id in joined["content"][0]["text"]
    assert json.loads(read["content"][0]["text"])["status"] == "completed"
    assert posts == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_every_revision_with_a_handshake_is_spoken(wire: Wire, version: str) -> None:
    begun = wire.send("initialize", protocolVersion=version, capabilities={})
    session = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": version}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    noted = wire.client.post(wire.url, json=ready, headers=session)
    ended = wire.client.delete(wire.url, headers=session)

    assert begun.json()["result"]["protocolVersion"] == version
    assert begun.json()["result"]["capabilities"] == {"tools": {"listChanged": False}}
    assert (noted.status_code, noted.content) == (202, b"")
    assert wire.send("ping", "a", session).json() == {"jsonrpc": "2.0", "id": "a", "result": {}}
    assert ended.status_code == 204


def test_what_the_protocol_does_not_allow_is_told_as_it_says(wire: Wire) -> None:
    newest = wire.send("initialize", protocolVersion="2099-01-01").json()
    unknown = wire.send("ping", 1, {"mcp-protocol-version": "2099-01-01"})
    method = wire.send("resources/list").json()
    tool = wire.send("tools/call", name="delete_everything").json()
    lost = wire.send("ping", 1, {"mcp-session-id": "somebody-elses"})
    stream = wire.client.get(wire.url, headers={"accept": "text/event-stream"})
    event = wire.client.get(wire.url, headers={"last-event-id": "garbage"})
    batch = wire.client.post(wire.url, json=[{"jsonrpc": "2.0", "id": 1, "method": "ping"}])

    assert newest["result"]["protocolVersion"] == VERSIONS[-1]
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, -32022)
    assert unknown.json()["error"]["data"]["supported"] == list(VERSIONS)
    assert (method["error"]["code"], tool["error"]["code"]) == (-32601, -32602)
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "object_not_found")
    assert (stream.status_code, stream.headers["allow"]) == (405, "POST, DELETE")
    assert (event.status_code, event.json()["error"]["code"]) == (400, "invalid_value")
    assert (batch.status_code, batch.json()["error"]["code"]) == (400, "invalid_body")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("https://127.0.0.1.evil.example", 403),
        ("http://localhost:6274", 200),
        ("http://[::1]:8080", 200),
    ],
)
def test_pages_of_other_origins_are_kept_out(wire: Wire, origin: str, status: int) -> None:
    host = origin.partition("//")[2] or "localhost"
    answer = wire.send("ping", 1, {"origin": origin, "host": host})

    assert answer.status_code == status


def test_a_wrong_key_is_told_before_anything_is_read(house: Koi) -> None:
    wire = Wire(house, "sk-koi-wrong")
    with wire.client:
        answer = wire.send("initialize", protocolVersion=VERSIONS[-1])

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_bound_cannot_be_kept_where_the_price_is_not_known(tmp_path: Path) -> None:
    with another(tmp_path, mcp=True, catalog=None) as (koi, wire):
        refused = wire.generate(prompt="priceless", max_cost="1000")
        posts = koi.sandbox.posts
        made = wire.generate(prompt="priceless")

    assert refused["structuredContent"]["error"]["code"] == "price_unknown"
    assert posts == 0
    assert line_of(made, "cost: ") == "cost: unknown"


def test_a_key_for_one_model_paints_with_it(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    priced = PRICED.read_text().replace(
        'default_model = "grok-imagine"', 'default_model = "painter"'
    )
    catalog.write_text(priced + PAINTER)
    with another(tmp_path, mcp=True, catalog=catalog, strict=True) as (koi, _):
        wire = Wire(koi, koi.key("narrow", models=frozenset({"grok-imagine"})))
        with wire.client:
            (tool, *_) = wire.send("tools/list").json()["result"]["tools"]
            made = wire.generate(prompt="a koi")
            refused = wire.generate(prompt="a koi", model="painter")

    about = tool["inputSchema"]["properties"]["model"]["description"]
    assert about.startswith("Missing: grok-imagine. grok-imagine: sizes ")
    assert "painter" not in about
    assert made["content"][0]["text"].startswith("1 picture by grok-imagine")
    assert refused["structuredContent"]["error"]["code"] == "model_not_found"


def test_an_event_id_opens_no_task_of_somebody_else(house: Koi, wire: Wire) -> None:
    events = {"accept": "application/json, text/event-stream"}
    call = {"name": "generate_image", "arguments": {"prompt": "mine"}}
    streamed = wire.send("tools/call", 1, events, **call).text
    last = next(line for line in streamed.splitlines() if line.startswith("id: "))[4:]
    stranger = Wire(house, house.key("mallory"))
    with stranger.client:
        foreign = stranger.client.get(wire.url, headers={"last-event-id": last})
    own = wire.client.get(wire.url, headers={**events, "last-event-id": last})

    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "task_not_found")
    assert json.loads(own.text.rpartition("data: ")[2])["result"]["isError"] is False


def test_the_metrics_have_the_status_of_a_refusal(house: Koi, wire: Wire) -> None:
    before = count(house, "POST", 400)
    wire.generate(prompt="koi [fault:moderation-400]")

    assert count(house, "POST", 400) == before + 1


def test_without_the_setting_there_is_no_such_route(tmp_path: Path) -> None:
    with another(tmp_path) as (_, wire):
        answer = wire.send("ping")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


async def until_posted(koi: Koi, posts: int) -> None:
    async with asyncio.timeout(10):
        while koi.sandbox.posts < posts:
            await asyncio.sleep(0.01)


def count(koi: Koi, method: str, status: int) -> float:
    """Requests to /mcp by the gateway's own count."""
    named = (
        f'koi_request_duration_seconds_count{{method="{method}",route="/mcp",status="{status}"}} '
    )
    lines = httpx.get(f"{koi.url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(named)) for line in lines if line.startswith(named))


def cut(link: FaultProxy) -> None:
    """Every connection breaks; the next one works."""
    link.set(reset())
    link.heal()
