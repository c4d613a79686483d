"""deploy/koi.postman_collection.json is what the published schema says, in Postman's format 2.1."""

import json
import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from app.api.routes import ROUTES
from tests.collection import FILE, FOR_PEOPLE, FORMAT, OF_ADMINISTRATORS, render

COLLECTION = json.loads(FILE.read_text(encoding="utf-8"))
PAIRS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["key", "value"],
        "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
    },
}
SHAPE: dict[str, Any] = {
    "required": ["info", "item", "auth", "variable"],
    "properties": {
        "info": {
            "required": ["name", "schema"],
            "properties": {"name": {"type": "string"}, "schema": {"const": FORMAT}},
        },
        "auth": {"$ref": "#/$defs/auth"},
        "variable": PAIRS,
        "item": {"type": "array", "items": {"$ref": "#/$defs/folder"}},
    },
    "$defs": {
        "auth": {"required": ["type"], "properties": {"type": {"enum": ["bearer", "noauth"]}}},
        "folder": {
            "required": ["name", "item"],
            "properties": {"item": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        },
        "item": {
            "required": ["name", "request", "response"],
            "properties": {
                "request": {"$ref": "#/$defs/request"},
                "response": {
                    "type": "array",
                    "items": {
                        "required": ["name", "originalRequest", "code", "body"],
                        "properties": {"code": {"type": "integer"}, "header": PAIRS},
                    },
                },
            },
        },
        "request": {
            "required": ["method", "url", "header"],
            "properties": {
                "method": {"enum": ["GET", "POST", "DELETE"]},
                "auth": {"$ref": "#/$defs/auth"},
                "header": PAIRS,
                "url": {
                    "required": ["raw", "host", "path", "query"],
                    "properties": {
                        "raw": {"pattern": "^{{base_url}}/"},
                        "path": {"type": "array", "items": {"type": "string"}},
                        "query": PAIRS,
                        "variable": PAIRS,
                    },
                },
                "body": {
                    "required": ["mode"],
                    "properties": {
                        "mode": {"enum": ["raw", "formdata"]},
                        "raw": {"type": "string"},
                        "formdata": {"type": "array"},
                    },
                },
            },
        },
    },
}
"""The parts of the format that are used here."""


def items() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            yield folder["name"], item


def test_the_collection_is_that_of_the_schema() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "run `make collection`"


def test_it_has_the_shape_of_the_format() -> None:
    assert [error.message for error in Draft202012Validator(SHAPE).iter_errors(COLLECTION)] == []


def test_every_route_for_programs_is_in_the_folder_of_its_tag() -> None:
    templates = {
        (folder, item["request"]["method"], re.sub(r":\w+", "{}", item["request"]["url"]["raw"]))
        for folder, item in items()
    }
    routes = {
        (tag, route.method, "{{base_url}}" + re.sub(r"{\w+}", "{}", route.path_format))
        for route in ROUTES
        if (tag := route.operation.tag) not in FOR_PEOPLE
    }

    assert {(tag, method, raw.partition("?")[0]) for tag, method, raw in templates} == routes


def test_the_keys_are_variables_and_empty() -> None:
    values = {row["key"]: row["value"] for row in COLLECTION["variable"]}
    folders = {folder["name"]: folder.get("auth") for folder in COLLECTION["item"]}

    assert (values["key"], values["admin_key"]) == ("", "")
    for name, auth in folders.items():
        token = auth["bearer"][0]["value"] if auth else None
        assert token == ("{{admin_key}}" if name in OF_ADMINISTRATORS else None), name
    assert not re.search(r"sk-[\w-]{8}|whsec_\w{8}", json.dumps(COLLECTION))


def test_bodies_and_shown_answers_are_json() -> None:
    for _, item in items():
        body = item["request"].get("body", {})
        if body.get("options"):
            json.loads(body["raw"])
        for answer in item["response"]:
            json.loads(answer["body"])
