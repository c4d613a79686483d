"""What a gateway logged of a job, in the operator's view of it."""

import json
from pathlib import Path

import httpx

from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.settings import build_settings
from app.wiring.operator import open_operator_context
from tests.flow.command import Cli, generate, served_by
from tests.harness import quick_sandbox

ADMIN_KEY = "admin-0123456789abcdef"


async def test_the_view_of_a_job_has_the_log_lines_that_name_it(tmp_path: Path) -> None:
    with quick_sandbox() as provider:
        cli = Cli(tmp_path, {**served_by(provider.url), "KOI_ADMIN_KEY": ADMIN_KEY})
        with cli.forked() as serving:
            async with open_operator_context(
                build_settings(data_dir=tmp_path / ".koi")
            ) as operator:
                await operator.keys.create_team("art", Limits())
                await operator.keys.create_user("ann", team="art")
                key = (await operator.keys.issue("ann")).secret
                lead = (
                    await operator.admin_keys.issue(
                        "lead", frozenset({AdminScope.READ}), team="art"
                    )
                ).secret
            one = generate(serving.url, key, "a planted prompt").headers["x-koi-task-id"]
            other = generate(serving.url, key, "another").headers["x-koi-task-id"]

            def log_of(secret: str) -> list[dict[str, object]]:
                headers = {"authorization": f"Bearer {secret}"}
                job = httpx.get(f"{serving.url}/v1/koi/jobs/{one}", headers=headers).json()
                return [json.loads(line) for line in job["log"]]

            lines, held = log_of(ADMIN_KEY), log_of(lead)

    assert {line["task_id"] for line in lines} == {one}
    assert [line["route"] for line in lines if line["event"] == "request"] == [
        "/v1/images/generations"
    ]
    assert other not in json.dumps(lines)
    assert "planted" not in json.dumps(lines)
    assert held == []
