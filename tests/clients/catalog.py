"""The clients that are driven against Koi, each in an environment of its own.

`python -m tests.clients.catalog ai-6` installs one.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
MAX_SAID = 2000
ENVIRONMENTS = HERE.parent.parent / ".clients"


@dataclass(frozen=True)
class Client:
    """One client. `environment` names its manifest and its folder, `driver` the script that runs
    in it; several clients may share an environment. No environment: the one of the tests."""

    name: str
    title: str
    environment: str
    driver: str
    arguments: tuple[str, ...] = field(default=())

    @property
    def is_node(self) -> bool:
        return self.driver.endswith(".mjs")

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.environment

    def command(self) -> list[str]:
        """How its driver is started. Node looks for packages beside the script, so it stands in
        the environment; Python's stands here."""
        if self.is_node:
            return ["node", str(self.folder / self.driver), *self.arguments]
        interpreter = str(self.folder / "bin" / "python") if self.environment else sys.executable
        return [interpreter, str(HERE / "drivers" / self.driver), *self.arguments]

    @property
    def is_ready(self) -> bool:
        """Whether it can be driven without being installed first."""
        if not self.environment:
            return True
        return (self.folder / ".installed").is_file() and (
            not self.is_node or shutil.which("node") is not None
        )

    def prepare(self) -> None:
        """Install what is missing. Raises CalledProcessError, or FileNotFoundError without npm."""
        if self.is_node:
            _install_node(self)
        elif self.environment:
            _install_python(self)


def _row(name: str, title: str, environment: str, driver: str, *arguments: str) -> Client:
    return Client(name, title, environment, driver, arguments)


CLIENTS: tuple[Client, ...] = (
    *(
        _row(
            f"openai-python-{v[0]}",
            f"openai-python {v}",
            f"openai-python-{v[0]}",
            "openai_python.py",
        )
        for v in ("1.35.15", "2.54.0", "3.57.0")
    ),
    *(
        _row(f"openai-node-{v[0]}", f"openai-node {v}", f"openai-node-{v[0]}", "openai_node.mjs")
        for v in ("4.104.0", "6.49.0", "7.59.0")
    ),
    *(
        _row(f"ai-{v[0]}", f"AI SDK {v} (openai)", f"ai-{v[0]}", "ai_sdk.mjs")
        for v in ("5.0.277", "6.0.326", "7.0.173")
    ),
    *(
        _row(
            f"ai-{v[0]}-compatible",
            f"AI SDK {v} (openai-compatible)",
            f"ai-{v[0]}",
            "ai_sdk.mjs",
            "compatible",
        )
        for v in ("5.0.277", "6.0.326", "7.0.173")
    ),
    _row("litellm", "LiteLLM 1.110.2 SDK", "litellm", "litellm_sdk.py"),
    _row("litellm-router", "LiteLLM 1.110.2 Router", "litellm", "litellm_sdk.py", "router"),
    _row("langchain", "langchain-community 0.4.2", "langchain", "langchain_python.py"),
    _row("langchain-js", "@langchain/openai 1.6.0", "langchain-js", "langchain_node.mjs"),
    _row("llamaindex", "LlamaIndex image tool 0.7.0", "llamaindex", "llamaindex_tool.py"),
    _row("pydantic-ai", "pydantic-ai-slim 2.68.0", "pydantic-ai", "pydantic_ai_images.py"),
)

HOUSE = Client("openai-python", f"openai-python {version('openai')}", "", "openai_python.py")
"""With this one nothing need be installed."""

PROXY = Client("litellm-proxy", "LiteLLM 1.108.7", "litellm-proxy", "")
"""No client but the gateway that stands beside Koi in the measurements; it has no driver."""


def chosen(names: str) -> list[Client]:
    """`ai-7,litellm`: those; nothing: all. Raises ValueError for a name that is no client's."""
    wanted = [name for name in names.split(",") if name]
    known = {client.name: client for client in CLIENTS} | {PROXY.name: PROXY}
    if strangers := [name for name in wanted if name not in known]:
        raise ValueError(f"no client is called {strangers[0]!r}; known: {', '.join(known)}")
    return [known[name] for name in wanted] or list(CLIENTS)


def _install_python(client: Client) -> None:
    manifest = HERE / "pip" / f"{client.environment}.txt"
    if _is_fresh(client.folder, manifest):
        return
    shutil.rmtree(client.folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(client.folder)])
    pip = [str(client.folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    _run([*pip, "install", "-r", str(manifest)])
    _mark(client.folder, manifest)


def _install_node(client: Client) -> None:
    source = HERE / "npm" / client.environment
    manifest = source / "package-lock.json"
    if not _is_fresh(client.folder, manifest):
        shutil.rmtree(client.folder, ignore_errors=True)
        client.folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, client.folder)
        _run(
            [
                "npm",
                "ci",
                "--loglevel=error",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(client.folder),
            ]
        )
        _mark(client.folder, manifest)
    for name in (client.driver, "line.mjs"):
        shutil.copy(HERE / "drivers" / name, client.folder)


def _is_fresh(folder: Path, manifest: Path) -> bool:
    installed = folder / ".installed"
    return installed.is_file() and installed.read_text() == manifest.read_text()


def _mark(folder: Path, manifest: Path) -> None:
    (folder / ".installed").write_text(manifest.read_text())


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except subprocess.CalledProcessError as error:
        error.add_note(f"It said: {error.stderr[-MAX_SAID:]}")
        raise


if __name__ == "__main__":
    for name in sys.argv[1:]:
        chosen(name)[0].prepare()
