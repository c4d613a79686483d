"""Conformance: usage and costs for the admin key, limits for the caller.

What clients of the OpenAI API rely on, one statement a test; no provider is needed for these.
"""

import pytest

from tests.contract.conftest import ADMIN_KEY
from tests.contract.door import Door, sdk
from tests.contract.stand_in import NOW


def test_the_sdks_admin_client_reads_usage(admin_door: Door) -> None:
    with sdk(admin_door, admin_api_key=ADMIN_KEY, _strict_response_validation=True) as client:
        page = client.admin.organization.usage.images(
            start_time=NOW, end_time=NOW + 10 * 86_400, group_by=["model", "user_id"],
            user_ids=["ann", "bob"],
        )  # fmt: skip
        rest = client.admin.organization.usage.images(
            start_time=NOW, end_time=NOW + 10 * 86_400, page=page.next_page or ""
        )

    result = page.data[0].results[0]
    assert (len(page.data), page.has_more) == (7, True)
    assert (len(rest.data), rest.has_more) == (3, False)
    assert (result.images, result.num_model_requests) == (2, 1)  # type: ignore[union-attr]
    assert (result.model, result.user_id) == ("some-model", "some-user")  # type: ignore[union-attr]
    assert result.project_id is None  # type: ignore[union-attr]
    assert admin_door.stage.questions[0].users == {"ann", "bob"}


def test_the_sdks_admin_client_reads_costs(admin_door: Door) -> None:
    with sdk(admin_door, admin_api_key=ADMIN_KEY, _strict_response_validation=True) as client:
        page = client.admin.organization.usage.costs(start_time=NOW, group_by=["line_item"])

    result = page.data[0].results[0]
    assert (result.amount.value, result.amount.currency) == (0.28, "cny")  # type: ignore[union-attr]
    assert (result.line_item, result.quantity_unit) == ("some-model, images", "images")  # type: ignore[union-attr]


def test_an_unknown_price_is_null_and_never_zero(admin_door: Door) -> None:
    admin_door.stage.micros = None

    path = f"/v1/organization/costs?start_time={NOW}"
    answer = admin_door.call("GET", path, key=ADMIN_KEY).json

    assert answer["data"][0]["results"][0]["amount"] is None


@pytest.mark.parametrize(
    "query",
    ["group_by%5B%5D=model&group_by%5B%5D=size", "group_by=model&group_by=size",
     "group_by=model,size"],
    ids=["brackets", "repeated", "comma"],
)  # fmt: skip
def test_an_array_is_understood_in_any_spelling(admin_door: Door, query: str) -> None:
    path = f"/v1/organization/usage/images?start_time={NOW}&end_time={NOW + 60}&{query}"
    answer = admin_door.call("GET", path, key=ADMIN_KEY)

    assert answer.status == 200
    assert admin_door.stage.questions[0].by == ("model", "size")


@pytest.mark.parametrize(("query", "param"), [
    ("start_time=253402300800&end_time=253402400000", "end_time"),
    ("start_time=0&page=page_253402300800", "page"),
    ("", "start_time"), ("start_time=x", "start_time"), ("start_time=5&end_time=5", "end_time"),
    ("start_time=1&bucket_width=2d", "bucket_width"), ("start_time=1&limit=32", "limit"),
    ("start_time=1&group_by=colour", "group_by"), ("start_time=1&page=page_2", "page"),
    ("start_time=1&page=x", "page"),
])  # fmt: skip
def test_a_usage_question_is_understood_or_refused_by_name(
    admin_door: Door, query: str, param: str
) -> None:
    answer = admin_door.call("GET", f"/v1/organization/usage/images?{query}", key=ADMIN_KEY)

    assert answer.status == 400
    assert answer.error["param"] == param


def test_a_caller_sees_its_own_limits(door: Door) -> None:
    usage = door.call("GET", "/v1/usage").json

    requests, images, _, money = usage["limits"]
    assert usage["user"] == "ann"
    assert (requests["meter"], requests["remaining"]) == ("requests", 59)
    assert (images["scope"], images["window"]) == ("user", "day")
    assert (images["limit"], images["used"], images["held"], images["remaining"]) == (100, 3, 2, 95)
    assert images["resets_at"].endswith("Z")
    assert (money["limit"], money["used"]) == ("10.00", "0.14")
    assert usage["binding"]["scope"] in ("key", "user", "house")
