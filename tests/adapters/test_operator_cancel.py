"""What an operator's command does to a task that waits."""

from pathlib import Path

from pydantic import SecretStr
from store_rig import Engine, admission, principal

from app.adapters.redis import keyspace
from app.domain.job import JobState
from app.settings import Settings
from app.wiring.operator import open_operator_context


async def test_a_cancelled_task_leaves_the_providers_queue_at_once(
    engine: Engine, tmp_path: Path
) -> None:
    settings = Settings(
        upstream_api_key=SecretStr("k"),
        redis_url=engine.url,
        data_dir=tmp_path,
        upstream_concurrency=1,
    )
    async with open_operator_context(settings) as operator:
        waiting = await operator.ledger.admit(admission(principal()))
        with engine.client() as store:
            store.zadd(keyspace.key("queue"), {f"1 {waiting.job.id}": 1})
            ended = await operator.cancel(waiting.job.id, "a loop")
            queued = store.zrange(keyspace.key("queue"), 0, -1)

    assert ended.state is JobState.RELEASED
    assert queued == []
