"""`python -m tests.collection` writes deploy/koi.postman_collection.json from the published schema.

Format 2.1 of Postman's collections, which Bruno, Insomnia, Hoppscotch and Yaak import too. A folder
for each tag; the key and the address are variables, and nothing else need be filled in.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.api.openapi import build_openapi
from app.api.routes import ROUTES
from app.api.settings import EdgeSettings

FILE = Path(__file__).parent.parent / "deploy" / "koi.postman_collection.json"
FORMAT = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
FOR_PEOPLE = {"Page"}
"""Tags whose routes a browser calls."""
OF_ADMINISTRATORS = {"Organization", "Operation of Koi", "Operation"}
ABOUT = """\
The routes of Koi. Set two variables: `base_url`, where your gateway is, without `/v1`, and `key`, \
your API key; the folders {folders} take `admin_key` instead. \
Written by `make collection` from the schema that every gateway serves at `/openapi.json`."""
Document = Mapping[str, Any]
SAMPLES: Mapping[str, Any] = {
    "string": "", "integer": 1, "number": 1, "boolean": False, "array": [], "object": {},
    "null": None,
}  # fmt: skip


def build_collection(document: Document) -> dict[str, Any]:
    """The same for the same document: no ids, no times, no version."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            folders.setdefault(operation["tags"][0], []).append(
                _item(document, path, method, operation)
            )
    shown = [tag for tag in folders if tag not in FOR_PEOPLE]
    admin = ", ".join(tag for tag in shown if tag in OF_ADMINISTRATORS)
    return {
        "info": {
            "name": document["info"]["title"],
            "description": ABOUT.format(folders=admin),
            "schema": FORMAT,
        },
        "auth": _bearer("key"),
        "variable": [
            {"key": "base_url", "value": "http://127.0.0.1:8000", "type": "string"},
            {"key": "key", "value": "", "type": "string"},
            {"key": "admin_key", "value": "", "type": "string"},
        ],
        "item": [_folder(tag, folders[tag]) for tag in shown],
    }


def _folder(tag: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    auth = {"auth": _bearer("admin_key")} if tag in OF_ADMINISTRATORS else {}
    return {"name": tag, **auth, "item": items}


def _bearer(variable: str) -> dict[str, Any]:
    token = {"key": "token", "value": f"{{{{{variable}}}}}", "type": "string"}
    return {"type": "bearer", "bearer": [token]}


def _item(document: Document, path: str, method: str, operation: Document) -> dict[str, Any]:
    parameters = operation.get("parameters", [])
    request: dict[str, Any] = {
        "method": method.upper(),
        "description": operation.get("description", ""),
        "header": _shown(document, parameters, "header"),
        "url": _url(document, path, parameters),
    }
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        kind, body = next(iter(content.items()))
        request["body"] = _body(document, kind, body)
        if kind != "multipart/form-data":
            request["header"].append({"key": "Content-Type", "value": kind})
    if not operation.get("security"):
        request["auth"] = {"type": "noauth"}
    answers = [] if method == "delete" else list(_answers(document, operation, request))
    return {"name": operation["summary"], "request": request, "response": answers}


def _url(document: Document, path: str, parameters: list[Document]) -> dict[str, Any]:
    parts = [f":{part[1:-1]}" if part.startswith("{") else part for part in path.split("/") if part]
    query = _shown(document, parameters, "query")
    asked = "&".join(f"{q['key']}={q['value']}" for q in query if not q["disabled"])
    return {
        "raw": "/".join(["{{base_url}}", *parts]) + (f"?{asked}" if asked else ""),
        "host": ["{{base_url}}"],
        "path": parts,
        "query": query,
        "variable": [
            {key: row[key] for key in ("key", "value", "description")}
            for row in _shown(document, parameters, "path")
        ],
    }


def _shown(document: Document, parameters: list[Document], place: str) -> list[dict[str, Any]]:
    """What may be left out is there, and turned off."""
    return [
        {
            "key": parameter["name"],
            "value": _text(sample(document, parameter.get("schema", {}))),
            "description": parameter.get("description", ""),
            "disabled": not parameter.get("required", False),
        }
        for parameter in parameters
        if parameter["in"] == place
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)


def _body(document: Document, kind: str, body: Document) -> dict[str, Any]:
    value = _example(document, body)
    if kind == "multipart/form-data":
        return {"mode": "formdata", "formdata": list(_fields(document, body["schema"]))}
    if not kind.endswith("json"):
        return {"mode": "raw", "raw": value if isinstance(value, str) else ""}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}


def _fields(document: Document, schema: Document) -> Iterator[dict[str, Any]]:
    schema = _resolved(document, schema)
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        field = _resolved(document, field)
        if "binary" in json.dumps(field) or "contentMediaType" in field:
            yield {"key": name, "type": "file", "src": [], "disabled": name != "image"}
        else:
            value = _text(sample(document, field))
            disabled = name not in required
            yield {"key": name, "type": "text", "value": value, "disabled": disabled}


def _answers(
    document: Document, operation: Document, request: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What the schema shows of answers that are no errors."""
    for status, answer in operation["responses"].items():
        body = answer.get("content", {}).get("application/json", {})
        for name, example in body.get("examples", {}).items() if status < "3" else ():
            value = _resolved(document, example)["value"]
            yield {
                "name": name,
                "originalRequest": {"method": request["method"], "url": request["url"]},
                "status": "OK",
                "code": int(status),
                "_postman_previewlanguage": "json",
                "header": [{"key": "Content-Type", "value": "application/json"}],
                "body": json.dumps(value, indent=2, ensure_ascii=False),
            }


def _example(document: Document, body: Document) -> Any:
    if "example" in body:
        return body["example"]
    for example in body.get("examples", {}).values():
        return _resolved(document, example)["value"]
    return sample(document, body.get("schema", {}))


def sample(document: Document, schema: Document, *, depth: int = 0) -> Any:
    """The example that a schema has, or the least that it allows."""
    schema = _resolved(document, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    for word in ("example", "const", "default"):
        if schema.get(word) is not None:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return sample(document, schema[word][0], depth=depth)
    if schema.get("properties") and depth < 4:
        required = schema.get("required", [])
        return {
            name: sample(document, field, depth=depth + 1) or _named(document, field, name)
            for name, field in schema["properties"].items()
            if name in required
        }
    kind = schema.get("type", "string")
    return SAMPLES[kind if isinstance(kind, str) else kind[0]]


def _named(document: Document, field: Document, name: str) -> Any:
    """A text that may not be empty is its own name."""
    field = _resolved(document, field)
    return name if field.get("type") == "string" else sample(document, field)


def _resolved(document: Document, part: Document) -> Document:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def render() -> str:
    collection = build_collection(build_openapi(ROUTES, EdgeSettings()))
    return json.dumps(collection, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
