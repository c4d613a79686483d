"""JSON-RPC 2.0 as the Model Context Protocol sends it: one message in each body."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from typing_extensions import TypedDict

from app.domain.errors import InvalidRequest

RequestId = str | int
Json = dict[str, Any]

MAX_ID_CHARS = 256
MAX_ID = 2**53
INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601
UNSUPPORTED_PROTOCOL_VERSION = -32022


class RpcErrorObject(TypedDict):
    code: int
    message: str
    data: Json | None


class RpcErrorBody(TypedDict):
    jsonrpc: str
    id: RequestId | None
    error: RpcErrorObject


class RpcResultBody(TypedDict):
    jsonrpc: str
    id: RequestId
    result: Json


class ProtocolError(Exception):
    """A message that the protocol does not allow, as its sender is told."""

    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


@dataclass(frozen=True, slots=True)
class McpMessage:
    """One message of a client. `id` is None where no answer is expected: in notifications, and in
    answers to what a server asked, which Koi never does. `method` is empty in answers."""

    method: str
    id: RequestId | None
    params: Mapping[str, Any]

    @property
    def progress_token(self) -> RequestId | None:
        """Where to tell progress; None when the client wants none."""
        token = self.meta.get("progressToken")
        return token if is_request_id(token) else None

    @property
    def meta(self) -> Mapping[str, Any]:
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


def parse_message(body: Mapping[str, Any]) -> McpMessage:
    """Raises `InvalidRequest`, code `invalid_body`."""
    method, params = body.get("method", ""), body.get("params") or {}
    is_answer = "method" not in body and ("result" in body or "error" in body)
    if body.get("jsonrpc") != "2.0" or not isinstance(method, str) or not (method or is_answer):
        raise _invalid_message("The body must be one message of JSON-RPC 2.0, without a batch.")
    if not isinstance(params, dict):
        raise _invalid_message("params must be an object.")
    given = body.get("id")
    if "id" in body and not is_request_id(given) and not is_answer:
        raise _invalid_message("id must be a text or a whole number.")
    return McpMessage(method, None if is_answer else given, params)


def is_request_id(value: object) -> bool:
    """Whether this may name a request, or its progress, and can be sent back as it came."""
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return type(value) is int and abs(value) < MAX_ID


def encode_result(id: RequestId, result: Json) -> bytes:
    body: RpcResultBody = {"jsonrpc": "2.0", "id": id, "result": result}
    return orjson.dumps(body)


def encode_error(id: RequestId | None, error: ProtocolError) -> bytes:
    told: RpcErrorObject = {"code": error.code, "message": error.message, "data": error.data}
    body: RpcErrorBody = {"jsonrpc": "2.0", "id": id, "error": told}
    return orjson.dumps(body)


def encode_progress(token: RequestId, progress: float, message: str) -> bytes:
    """`progress` must grow from one notification to the next."""
    params = {"progressToken": token, "progress": progress, "message": message}
    body = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    return orjson.dumps(body)


def encode_event(data: bytes, id: str | None = None) -> bytes:
    """One server-sent event. With an `id` a client that lost the stream can say where it was."""
    head = b"" if id is None else b"id: %s\n" % id.encode()
    return b"%sevent: message\ndata: %s\n\n" % (head, data)


def _invalid_message(message: str) -> InvalidRequest:
    return InvalidRequest("invalid_body", message)
