"""`deploy/recipes`: each program runs as pasted, each front end's request gets its picture."""

import ast
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.sandbox.server import Sandbox
from tests.clients.catalog import CLIENTS, PROXY
from tests.clients.litellm_proxy import proxy_with
from tests.flow.command import ROOT
from tests.flow.conftest import Start
from tests.flow.studio import CATALOG
from tests.flow.test_sdk_node import NODE
from tests.flow.test_webhooks import QUICK_DELIVERY, ask
from tests.harness import KOI, Koi
from tests.ports import free_port

RECIPES = ROOT / "deploy" / "recipes"
FRONT_ENDS = RECIPES / "front-ends"
PAGE = (RECIPES / "README.md").read_text(encoding="utf-8")
GENERATE = "/v1/images/generations"
URL, KEY = "http://127.0.0.1:8000", "sk-koi-…"
MASTER = "sk-litellm-…"
LINK = re.compile(r"https?://[^\s\"',}]+")
WITHIN_S = 120
OURS = (
    "python_sdk.py", "python_async_polling.py", "python_streaming.py", "python_task_events.py",
    "node_sdk.mjs", "node_async_polling.mjs", "curl.sh", "curl_async.sh",
)  # fmt: skip
"""What the tools of the suite run."""
ENVIRONMENTS = {
    "litellm_sdk.py": "litellm",
    "litellm_router.py": "litellm",
    "langchain_image.py": "langchain",
    "langchain_image.mjs": "langchain-js",
    "llamaindex_image.py": "llamaindex",
    "pydantic_ai_image.py": "pydantic-ai",
    "ai_sdk.mjs": "ai-6",
}
"""Recipe -> the client of `make clients` in whose environment it runs."""
EDITS = ("python_edit.py", "node_edit.mjs")
"""Make a picture, then another after it."""
RECEIVERS = ("webhook_receiver.py", "webhook_receiver.mjs")
PROXIES = ("litellm_proxy.yaml", "koi_before_litellm.yaml", "koi_before_litellm.env")
"""Of LiteLLM's proxy, before Koi and behind it."""
RUN_BY = {
    "Run by `make test`": {*OURS, *EDITS, *RECEIVERS},
    "Run by tests/flow/test_recipes.py": {*ENVIRONMENTS, *PROXIES},
    "Its request is replayed by `make test`": {p.name for p in FRONT_ENDS.iterdir()},
}
HAS_NODE = shutil.which("node") is not None and (NODE / "node_modules" / "openai").is_dir()


def written(name: str) -> Path:
    (path,) = [path for path in RECIPES.rglob("*") if path.name == name]
    return path


def pasted(name: str, url: str, key: str) -> str:
    """The text with its two settings filled in, and nothing else changed."""
    text = written(name).read_text(encoding="utf-8")
    head = "\n".join(text.splitlines()[:3])
    if name not in PROXIES:
        assert (URL in head, KEY in head) == (True, True), f"{name} has its settings on top"
    return text.replace(URL, url).replace(KEY, key)


@dataclass
class Cook:
    """Runs recipes, each in a folder of its own."""

    path: Path

    def start(self, name: str, text: str, environment: Path | None = None) -> Any:
        folder = self.path / name
        folder.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
        if name.endswith(".mjs"):
            (folder / "node_modules").symlink_to((environment or NODE) / "node_modules")
            command = ["node", name]
        elif name.endswith(".sh"):
            command = ["sh", name]
        else:
            python = str(environment / "bin" / "python") if environment else sys.executable
            command = [python, name]
        return subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def dish(self, name: str, process: Any) -> str:
        """What is wrong with what it made; empty when it made a picture."""
        said, error = process.communicate(timeout=WITHIN_S)
        if process.returncode:
            return f"{name}: {error[-600:]}"
        made = self.path / name / "koi.jpg"
        links = LINK.findall(said)
        picture = made.read_bytes() if made.exists() else httpx.get(links[-1]).content
        return "" if picture.startswith(b"\xff\xd8\xff") else f"{name}: {said}"


def run_all(koi: Koi, path: Path, recipes: Mapping[str, Path | None]) -> list[str]:
    cook = Cook(path)
    running = {
        name: cook.start(name, pasted(name, koi.url, koi.key(name)), environment)
        for name, environment in recipes.items()
    }
    return [wrong for name, process in running.items() if (wrong := cook.dish(name, process))]


def test_recipes_run_as_pasted(koi: Koi, tmp_path: Path) -> None:
    here = [
        name
        for name in OURS
        if (HAS_NODE or not name.endswith(".mjs"))
        and (shutil.which("curl") is not None or not name.endswith(".sh"))
    ]

    assert run_all(koi, tmp_path, dict.fromkeys(here)) == []
    assert koi.sandbox.posts == len(here)


def test_recipes_of_edits_run_as_pasted(start: Start, tmp_path: Path) -> None:
    koi = start(catalog=CATALOG)
    here = EDITS if HAS_NODE else EDITS[:1]

    assert run_all(koi, tmp_path, dict.fromkeys(here)) == []
    assert sorted(map(len, koi.sandbox.references)) == [0] * len(here) + [1] * len(here)


def test_recipes_of_other_clients_run_where_these_are_installed(koi: Koi, tmp_path: Path) -> None:
    clients = {client.name: client for client in CLIENTS}
    ready = {
        recipe: clients[name].folder
        for recipe, name in ENVIRONMENTS.items()
        if clients[name].is_ready
    }
    if not ready:
        pytest.skip("`make clients` has installed none of them")

    assert run_all(koi, tmp_path, ready) == []
    assert koi.sandbox.posts == len(ready)


needs_proxy = pytest.mark.skipif(
    not PROXY.is_ready, reason="needs `python -m tests.clients.catalog litellm-proxy`"
)


@needs_proxy
def test_litellms_proxy_works_in_front_of_koi(koi: Koi, tmp_path: Path) -> None:
    text = pasted("litellm_proxy.yaml", koi.url, koi.key()).replace(MASTER, "sk-litellm-1")

    with proxy_with(text, tmp_path / "proxy") as url:
        master = {"authorization": "Bearer sk-litellm-1"}
        answer = httpx.post(f"{url}{GENERATE}", json=KOI, headers=master, timeout=60)

    assert answer.status_code == 200, answer.text
    assert httpx.get(answer.json()["data"][0]["url"]).content.startswith(b"\xff\xd8\xff")
    assert koi.sandbox.posts == 1


@needs_proxy
def test_koi_works_in_front_of_litellms_proxy(
    start: Start, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Base64, several pictures and tasks are Koi's work: the proxy gives links only."""
    text = written("koi_before_litellm.yaml").read_text(encoding="utf-8")
    text = text.replace("https://provider.example/v1", sandbox.url)
    text = text.replace("sk-provider-…", sandbox.key)
    lines = written("koi_before_litellm.env").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    settings = {name.removeprefix("KOI_").lower(): value for name, value in settings.items()}
    assert settings["upstream_api_key"] == MASTER

    with proxy_with(text.replace(MASTER, "sk-litellm-1"), tmp_path / "proxy") as url:
        settings |= {"upstream_base_url": f"{url}/v1", "upstream_api_key": "sk-litellm-1"}
        koi = start(**settings, upstream_timeout_s=30)
        with koi.client(timeout=60) as client:
            asked = [{"response_format": "b64_json"}, {"n": 3}, {"async": True}]
            asks = [{**KOI, "prompt": f"koi {n}", **more} for n, more in enumerate(asked)]
            plain, three, task = (client.post(GENERATE, json=ask).json() for ask in asks)
            task = client.get(f"/v1/tasks/{task['id']}?wait=20").json()

    assert plain["data"][0]["b64_json"]
    assert len(three["data"]) == 3
    assert task["status"] == "completed"
    assert (koi.sandbox.posts, koi.sandbox.billed_images) == (3, 5)


def test_webhook_receivers_verify_what_they_are_sent(start: Start, tmp_path: Path) -> None:
    koi, cook, key = start(**QUICK_DELIVERY), Cook(tmp_path), ""
    key = koi.key()
    with koi.client(key) as client:
        secret = client.get("/v1/koi/webhooks/secret").json()["secret"]
    for name in RECEIVERS if HAS_NODE else RECEIVERS[:1]:
        port = free_port()
        text = written(name).read_text(encoding="utf-8")
        assert text.splitlines()[1].endswith("PORT = 8080")
        text = text.replace("8080", str(port)).replace("whsec_…", secret)
        process = cook.start(name, text)
        try:
            wait_for_port(port)
            url = f"http://127.0.0.1:{port}/"
            forged = httpx.post(url, content=b"{}", headers={"webhook-id": "msg_1"})
            task = ask(koi, key, url, prompt=name)
            said = process.stdout.readline().split()
        finally:
            process.kill()
            process.communicate()

        assert forged.status_code == 401
        assert said[:2] == ["task.completed", task["id"]]
        assert httpx.get(said[2]).content.startswith(b"\xff\xd8\xff")


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the receiver did not start")


@dataclass(frozen=True)
class Sent:
    """What a front end sends, by its source: the path after the URL that it is given, its own
    fields, and the header with the key."""

    path: str
    fields: Mapping[str, Any]
    header: str = "authorization"


PROMPT = "a koi in a nebula"
SENT = {
    "open-webui.env": Sent("/images/generations", {
        "model": "grok-imagine", "n": 1, "size": "1024x1024", "response_format": "b64_json"}),
    "librechat.env": Sent("/images/generations", {
        "model": "gpt-image-1", "n": 1, "background": "auto", "quality": "auto", "size": "auto"}),
    "lobechat.env": Sent("/images/generations", {"model": "grok-imagine", "n": 1}),
    "nextchat.env": Sent("/v1/images/generations", {
        "model": "dall-e-3", "response_format": "b64_json", "n": 1, "size": "1024x1024",
        "quality": "standard", "style": "vivid"}),
    "n8n.env": Sent("/images/generations", {
        "model": "dall-e-3", "quality": "standard", "size": "1024x1024", "style": "vivid",
        "response_format": "b64_json"}),
    "dify.env": Sent("/v1/images/generations", {
        "model": "dall-e-3", "n": 1, "size": "1024x1024", "quality": "standard", "style": "vivid",
        "response_format": "b64_json"}),
    "cherry-studio.env": Sent("/v1/images/generations", {
        "model": "grok-imagine", "n": 1, "size": "1024x1024"}),
    "comfyui.env": Sent("/proxy/openai/images/generations", {
        "model": "gpt-image-1", "quality": "low", "background": "auto", "n": 1, "size": "auto",
        "moderation": "low"}, header="x-api-key"),
}  # fmt: skip


def test_front_ends_with_these_settings_get_their_picture(koi: Koi) -> None:
    for name, sent in SENT.items():
        text = pasted(name, koi.url, koi.key(name))
        first, second = [line.partition("=")[2] for line in text.splitlines()[1:3]]
        key = f"Bearer {second}" if sent.header == "authorization" else second
        answer = httpx.post(
            first + sent.path,
            headers={sent.header: key},
            json={"prompt": PROMPT, **sent.fields},
            timeout=30,
        )
        assert answer.status_code == 200, (name, answer.text)
        (picture,) = answer.json()["data"]
        assert picture.get("b64_json") or picture["url"].startswith(koi.url), name


def test_every_recipe_says_who_runs_it_and_is_on_the_page() -> None:
    names = {path.name for path in RECIPES.rglob("*") if path.is_file()} - {"README.md"}

    assert names == set().union(*RUN_BY.values())
    assert set(SENT) == RUN_BY["Its request is replayed by `make test`"]
    for phrase, recipes in RUN_BY.items():
        for name in recipes:
            first = written(name).read_text(encoding="utf-8").splitlines()[0]
            assert first.lstrip("#/ ").startswith(phrase), name
            assert f"`{written(name).relative_to(RECIPES)}`" in PAGE, name


def test_recipes_that_are_not_run_here_can_be_read() -> None:
    for name in (*ENVIRONMENTS, *RECEIVERS, *PROXIES):
        text = written(name).read_text(encoding="utf-8")
        if name.endswith(".py"):
            ast.parse(text)
        elif name.endswith(".yaml"):
            assert yaml.safe_load(text)["model_list"]
        elif name.endswith(".mjs") and HAS_NODE:
            check = ["node", "--check", str(written(name))]
            assert subprocess.run(check, capture_output=True, check=False).returncode == 0, name
