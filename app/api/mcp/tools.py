"""The three tools: what a model is told of them, and how their arguments are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.api.mcp.messages import INVALID_PARAMS, Json, McpMessage, ProtocolError
from app.api.parameters import (
    PRINTABLE_NAME,
    invalid_value_error,
    missing_error,
    parse_integer,
    parse_string,
)
from app.api.request_fields import QUALITY, SIZE, N
from app.api.tasks import MAX_WAIT_S, TASK_ID
from app.domain.catalog import Catalog, Model
from app.domain.errors import InvalidRequest, TaskNotFound
from app.domain.money import parse_micros
from app.domain.principal import Principal

GENERATE, GET_TASK, GET_USAGE = "generate_image", "get_task", "get_usage"
MAX_COST = "max_cost"
REQUEST_FIELDS = ("prompt", "model", "size", "quality", "n")
"""Arguments of `generate_image` that are fields of POST /v1/images/generations too."""
ARGUMENTS: Mapping[str, frozenset[str]] = {
    GENERATE: frozenset({*REQUEST_FIELDS, MAX_COST}),
    GET_TASK: frozenset({"task_id", "wait"}),
    GET_USAGE: frozenset(),
}
MAX_AMOUNT_CHARS = 32
AMOUNT_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A known tool with arguments that it knows by name."""

    name: str
    arguments: Mapping[str, Any]


def parse_call(message: McpMessage) -> ToolCall:
    """Raises `ProtocolError` for a tool that there is not, `InvalidRequest` for an argument that
    it has not: a bound that is misspelt must not be taken as none."""
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if not isinstance(name, str) or name not in ARGUMENTS:
        raise ProtocolError(INVALID_PARAMS, f"Unknown tool; there are {', '.join(ARGUMENTS)}.")
    if not isinstance(arguments, dict | None):
        raise ProtocolError(INVALID_PARAMS, "arguments must be an object.")
    call = ToolCall(name, arguments or {})
    for field in call.arguments:
        if field not in ARGUMENTS[name]:
            known = ", ".join(sorted(ARGUMENTS[name])) or "none"
            raise InvalidRequest(
                "unknown_parameter",
                f"{name} has no such argument; it has: {known}.",
                param=field if PRINTABLE_NAME.fullmatch(field) else None,
            )
    return call


def build_request_body(call: ToolCall, catalog: Catalog, principal: Principal) -> dict[str, Any]:
    """The body that this call would be as a POST to /v1/images/generations."""
    fields = {name: call.arguments[name] for name in REQUEST_FIELDS if name in call.arguments}
    return {"model": _choose_model(catalog, principal), **fields, "response_format": "url"}


def _choose_model(catalog: Catalog, principal: Principal) -> str:
    """The model of a call that names none: the default one, or the first that the key may use."""
    names = (catalog.default_model, *(model.name for model in catalog.enabled))
    return next(filter(principal.may_use, names), catalog.default_model)


def parse_max_cost(call: ToolCall) -> int | None:
    """Micro-units; None without a bound. Raises `InvalidRequest`."""
    text = parse_string(call.arguments, MAX_COST, MAX_AMOUNT_CHARS)
    if text is None:
        return None
    try:
        return parse_micros(text)
    except ValueError:
        raise invalid_value_error(
            MAX_COST, f'{MAX_COST} must be decimal text such as "0.30"; nothing was bought.'
        ) from None


def parse_task_read(call: ToolCall) -> tuple[str, int]:
    """The task, and how many seconds to wait for its end. Raises `InvalidRequest`,
    `TaskNotFound`."""
    task_id = parse_string(call.arguments, "task_id", 64)
    if task_id is None:
        raise missing_error("task_id")
    if TASK_ID.fullmatch(task_id) is None:
        raise TaskNotFound
    return task_id, parse_integer(call.arguments, "wait", 0, MAX_WAIT_S) or 0


def list_tools(catalog: Catalog, principal: Principal, max_images: int) -> Json:
    """The answer to `tools/list`, with the models that this principal may use."""
    models = [model for model in catalog.enabled if principal.may_use(model.name)]
    return {
        "tools": [
            _describe_generate(models, _choose_model(catalog, principal), catalog, max_images),
            _describe_tool(
                GET_TASK,
                "Read a task",
                "The state of a task, and its pictures once it is completed. Free.",
                {
                    "task_id": {"type": "string", "description": "As generate_image told it."},
                    "wait": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": MAX_WAIT_S,
                        "description": "Seconds to wait for its end; missing: 0.",
                    },
                },
                required=["task_id"],
            ),
            _describe_tool(
                GET_USAGE,
                "Read limits and usage",
                "What this key, its user and its team may still use, and which limit binds. Free.",
                {},
            ),
        ]
    }


def _describe_generate(
    models: list[Model], default: str, catalog: Catalog, max_images: int
) -> Json:
    properties: Json = {
        "prompt": {"type": "string", "minLength": 1, "description": "What should be seen."},
        "model": {
            "type": "string",
            "description": f"Missing: {default}. {' '.join(_list_models(models))}",
        },
        "size": {"type": "string", "description": SIZE.about},
        "quality": {"type": "string", "description": QUALITY.about},
        "n": {"type": "integer", "minimum": 1, "maximum": max_images, "description": N.about},
        MAX_COST: {
            "type": "string",
            "pattern": AMOUNT_PATTERN,
            "description": f"In {catalog.currency}, for all pictures together. Nothing is bought "
            "if they cost more, or if the price is not known.",
        },
    }
    return _describe_tool(
        GENERATE,
        "Generate images",
        "Make pictures from text. It costs money, and takes up to minutes. Answers with the "
        "pictures, their links, the cost and the task id. The same call again, within two "
        "minutes, joins its task and costs nothing more; for several pictures pass n.",
        properties,
        required=["prompt"],
        reads_only=False,
    )


def _list_models(models: list[Model]) -> Iterator[str]:
    for model in models:
        sizes, qualities = ", ".join(model.sizes), ", ".join(model.qualities)
        yield f"{model.name}: sizes {sizes}; qualities {qualities}."


def _describe_tool(
    name: str,
    title: str,
    about: str,
    properties: Json,
    *,
    required: list[str] | None = None,
    reads_only: bool = True,
) -> Json:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "name": name,
        "title": title,
        "description": about,
        "inputSchema": {**schema, "required": required} if required else schema,
        "annotations": {
            "title": title,
            "readOnlyHint": reads_only,
            "destructiveHint": False,
            "idempotentHint": reads_only,
            "openWorldHint": not reads_only,
        },
    }
