"""The published schema says what the gateway does, and its page needs nothing from elsewhere."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.api.docs import ASSET_PACKAGE
from app.api.error_examples import MEANINGS
from app.api.errors import ERROR_TABLE
from app.api.request_fields import ACCEPTED_FIELDS, SUPPORTED_FIELDS
from app.api.routes import ROUTES
from app.api.settings import EdgeSettings
from app.api.wire import EXAMPLES
from app.main import create_app
from tests.contract.bad_bodies import BODIES, STRICT, Row, assert_error, koi
from tests.contract.door import Door, served
from tests.contract.stand_in import Stage, opener

Schema = dict[str, Any]
PAGES = ("/openapi.json", "/docs", "/docs/", "/docs/init.js", "/docs/swagger-ui.css")
GENERATE = "/v1/images/generations"


def document(door: Door) -> Schema:
    answer = door.call("GET", "/openapi.json", key=None)
    assert answer.status == 200
    return answer.json


@pytest.fixture(scope="module")
def published(_plain_door: Door) -> Schema:
    """What the door publishes, which is long, read once."""
    return document(_plain_door)


def fields(schema: Schema) -> dict[str, Any]:
    return schema["components"]["schemas"]["GenerationBody"]["properties"]


def documented_codes(schema: Schema, method: str, path: str) -> set[tuple[int, str]]:
    answers = schema["paths"][path][method.lower()]["responses"]
    return {
        (int(status), code)
        for status, answer in answers.items()
        for code in answer.get("content", {}).get("application/json", {}).get("examples", {})
        if int(status) >= 400
    }


def test_the_document_is_valid_and_names_every_route(published: Schema) -> None:
    from openapi_spec_validator import validate

    validate(published)
    named = {(m.upper(), path) for path, methods in published["paths"].items() for m in methods}
    assert named == {(route.method, route.path_format) for route in ROUTES}
    schemes = published["components"]["securitySchemes"].values()
    assert {s["name"] for s in schemes if "name" in s} == {"api-key", "x-api-key"}
    assert published["servers"] == [{"url": "."}]


def test_links_of_the_document_go_to_the_public_url(admin_door: Door) -> None:
    assert document(admin_door)["servers"] == [{"url": "https://koi.example/gate"}]


def test_every_error_has_a_sentence_and_a_route_that_answers_it(published: Schema) -> None:
    assert MEANINGS.keys() == ERROR_TABLE.keys()

    documented = {
        code
        for route in ROUTES
        for _, code in documented_codes(published, route.method, route.path_format)
    }
    assert documented == ERROR_TABLE.keys()


def test_the_examples_of_answers_are_of_the_kinds_they_stand_for(published: Schema) -> None:
    for name, (kind, value) in EXAMPLES.items():
        assert TypeAdapter(kind).validate_python(value, strict=True) == value, name
        assert published["components"]["examples"][name]["value"] == json.loads(json.dumps(value))


def test_an_example_is_a_whole_openai_error(published: Schema) -> None:
    answers = published["paths"][GENERATE]["post"]["responses"]
    error = published["components"]["examples"]["rate_limit_exceeded"]

    assert error["value"]["error"].keys() == {"message", "type", "param", "code"}
    assert {"retry-after", "x-should-retry", "x-request-id"} <= answers["429"]["headers"].keys()
    assert "www-authenticate" in answers["401"]["headers"]


@pytest.mark.parametrize("row", BODIES, ids=lambda row: row.id)
def test_every_refusal_of_a_body_is_documented(door: Door, published: Schema, row: Row) -> None:
    answer = door.post(row.body, row.headers)

    if answer.status != 200:
        codes = documented_codes(published, "POST", GENERATE)
        assert (answer.status, answer.error["code"]) in codes


def test_the_schema_has_the_fields_that_are_read(published: Schema, strict_door: Door) -> None:
    strict = fields(document(strict_door))
    assert strict.keys() == SUPPORTED_FIELDS | ACCEPTED_FIELDS
    assert fields(published).keys() >= strict.keys()


def test_what_the_schema_forbids_is_refused_by_the_name_of_the_field(
    door: Door, published: Schema
) -> None:
    for name, schema in fields(published).items():
        for value in outside(schema):
            answer = door.post(koi(**{name: value}))
            assert answer.status == 400, (name, value)
            assert answer.error["param"] == name


def test_what_the_schema_allows_is_taken(door: Door, published: Schema) -> None:
    for name, schema in fields(published).items():
        for value in inside(name, schema):
            answer = door.post(koi(**{name: value}))
            assert answer.status in (200, 404), (name, value, answer)


def test_a_strict_gateway_says_that_it_takes_no_other_field(
    published: Schema, strict_door: Door
) -> None:
    whole = document(strict_door)
    strict = whole["components"]["schemas"]["GenerationBody"]
    loose = published["components"]["schemas"]["GenerationBody"]

    assert (strict["additionalProperties"], loose["additionalProperties"]) == (False, True)
    assert set(strict["required"]) == {"model", "prompt"}
    assert loose["required"] == ["prompt"]
    for row in STRICT:
        if row.status != 200:
            codes = documented_codes(whole, "POST", GENERATE)
            assert (row.status, row.code) in codes, row.id


def outside(schema: dict[str, Any]) -> Iterator[Any]:
    """Values just beyond what a field's schema allows."""
    types = schema.get("type", [])
    if types:
        yield {"an": "object"}
        yield 1 if "string" in types else "text"
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if "minLength" in schema:
        yield ""
    if "pattern" in schema:
        yield "a\x00b"
    if "enum" in schema:
        yield "another"
    if "minimum" in schema:
        yield from (schema["minimum"] - 1, schema["maximum"] + 1)


def inside(name: str, schema: dict[str, Any]) -> Iterator[Any]:
    """Values at the very edge of what a field's schema allows."""
    types = schema.get("type", [])
    if "null" in types:
        yield None
    if "boolean" in types:
        yield from (True, False)
    if "maxLength" in schema and name in ("model", "user", "safety_identifier", "quality"):
        yield "x" * schema["maxLength"]
    if "minimum" in schema:
        yield from (schema["minimum"], schema["maximum"])
    yield from schema.get("enum", ())


@pytest.fixture(scope="module")
def few_door() -> Iterator[Door]:
    stage = Stage()
    with served(create_app(opener(stage, EdgeSettings(max_images=3)))) as (host, port):
        yield Door(host, port, stage=stage)


def test_the_limits_are_those_of_this_deployment(few_door: Door) -> None:
    assert fields(document(few_door))["n"]["maximum"] == 3
    assert_error(few_door.post(koi(n=4)), 400, "integer_above_max_value", "n")


@pytest.fixture(scope="module")
def hidden_door() -> Iterator[Door]:
    stage = Stage()
    with served(create_app(opener(stage, EdgeSettings(docs=False)))) as (host, port):
        yield Door(host, port, stage=stage)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", PAGES)
def test_without_docs_neither_schema_nor_page_exist(
    hidden_door: Door, path: str, method: str
) -> None:
    assert_error(hidden_door.call(method, path, key=None), 404, "unknown_url", None)


@pytest.mark.parametrize("path", PAGES)
def test_with_docs_they_take_no_other_method(door: Door, path: str) -> None:
    answer = door.call("POST", path, key=None)

    assert_error(answer, 405, "method_not_allowed", None)
    assert answer.headers["allow"] == "GET, HEAD"


def test_the_page_runs_no_inline_code_and_loads_nothing_from_elsewhere(door: Door) -> None:
    page = door.call("GET", "/docs", key=None)
    text = page.body.decode()

    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "//" not in policy
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|//", text)
    for link in re.findall(r'(?:src|href)="(docs/[^"]+)"', text):
        asset = door.call("GET", f"/{link}", key=None)
        assert asset.status == 200, link
        assert asset.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
        assert len(asset.body) == int(asset.headers["content-length"])
        etag = asset.headers["etag"]
        for known in (etag, f"W/{etag}", f'"another", {etag}', "*"):
            again = door.call("GET", f"/{link}", {"If-None-Match": known}, key=None)
            assert again.status == 304, known
    assert ASSET_PACKAGE not in sys.modules, "its files are served, its code is never run"


def test_the_page_finds_its_files_with_a_slash_behind_it_too(door: Door) -> None:
    page = door.call("GET", "/docs/", key=None)

    assert b'src="../docs/init.js"' in page.body
