"""The service described in OpenAPI 3.1, made from the jobs' own dataclasses."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import StrEnum
from typing import Any

import backend
from backend.jobs import (
    JOB_TYPES,
    PROTOCOL_VERSION,
    SCHEMA_VERSION,
    Job,
    JobState,
    JobStatus,
    Progress,
    Result,
)
from backend.service.artefacts import Artefact
from backend.service.events import LogLine

__all__ = ["openapi"]

Schema = dict[str, Any]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_SHAPES = (JobStatus, Progress, Result, Artefact, LogLine)
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_PID: Schema = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}


def openapi() -> Schema:
    """The whole document; every call makes a new one."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stitchwork",
            "version": backend.__version__,
            "description": f"Protocol {PROTOCOL_VERSION}. On 127.0.0.1 only; requests with an "
            "Origin or another Host are refused.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _schemas() -> Schema:
    jobs = {each.__name__: _job(each) for each in JOB_TYPES.values()}
    kinds = {kind: _to(each.__name__)["$ref"] for kind, each in JOB_TYPES.items()}
    return {
        **jobs,
        "Job": {
            "oneOf": [_to(name) for name in jobs],
            "discriminator": {"propertyName": "kind", "mapping": kinds},
        },
        **{each.__name__: _shape(each) for each in _SHAPES},
        "Event": {
            "oneOf": [
                _object({"n": _NUMBER, name: shape})
                for name, shape in (
                    ("state", _type(JobState)),
                    ("progress", _to("Progress")),
                    ("log", _to("LogLine")),
                )
            ]
        },
        "Refusal": _object({"error": {"type": "string"}, "remedy": {"type": "string"}}),
    }


def _job(job: type[Job]) -> Schema:
    """A job's fields, with the limits and the help that command line and panel show."""
    shape = _shape(job)
    fields: Schema = {
        "schema": {"const": SCHEMA_VERSION, "default": SCHEMA_VERSION},
        "kind": {"const": job.kind},
    }
    for each in dataclasses.fields(job):
        found, about = shape["properties"][each.name], each.metadata
        found["description"] = about["help"]
        limits = {"minimum": about["minimum"], "maximum": about["maximum"]}
        found |= {name: value for name, value in limits.items() if value is not None}
        if about["choices"]:
            found["enum"] = [*about["choices"], *([None] if each.default is None else [])]
        if about["path"]:
            found["description"] += f" (absolute path under a root, to {about['path']})"
    return {
        **shape,
        "description": job.__doc__ or "",
        "properties": fields | shape["properties"],
        "required": ["kind", *shape["required"]],
    }


def _shape(shape: type[Any]) -> Schema:
    hints = typing.get_type_hints(shape)
    properties, required = {}, []
    for each in dataclasses.fields(shape):
        properties[each.name] = _type(hints[each.name])
        if each.default is not dataclasses.MISSING:
            properties[each.name]["default"] = each.default
        elif each.default_factory is dataclasses.MISSING:
            required.append(each.name)
    return _object(properties, required)


def _type(hint: Any) -> Schema:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        choices = [_type(each) for each in typing.get_args(hint)]
        if all(each.keys() == {"type"} for each in choices):
            return {"type": [each["type"] for each in choices]}
        return {"anyOf": choices}
    if typing.get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _type(typing.get_args(hint)[1])}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": [str(each) for each in hint]}
    return {"type": _PLAIN[hint]} if hint in _PLAIN else _to(hint.__name__)


def _to(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties] if required is None else required,
        "additionalProperties": False,
    }


def _paths() -> Schema:
    status, whole = _to("JobStatus"), {"type": "integer"}
    text: Schema = {"type": "string"}
    maybe_text: Schema = {"type": ["string", "null"]}
    hello = {
        "protocol": whole,
        "version": text,
        "profiles": _list(text),
        "pid": whole,
        "log": maybe_text,
    }
    since = _query("since", _NUMBER, "the number of the last event that is known")
    news = _object(
        {
            "job": status,
            "events": _list(_to("Event")),
            "last": whole,
            "artefacts": _list(_to("Artefact")),
        }
    )
    storage = _object({"used": whole, "quota": {"type": ["integer", "null"]}})
    role = {**_ID, "name": "role"}
    submit = [
        _query("client", _PID, "cancelled when this process leaves"),
        _query("key", {"type": "string", "pattern": r"^[\w.-]{1,64}$"}, "safe to send again"),
    ]
    stream = {"text/event-stream": {"schema": text}}
    return {
        "/v1/hello": {"get": _does("Who answers", 200, _object(hello))},
        "/v1/openapi.json": {"get": _does("This document", 200, {"type": "object"})},
        "/v1/jobs": {
            "get": _does("All jobs, in the order they came", 200, _list(status)),
            "post": _does("Queue a job", 201, status, submit, _to("Job"), refusals=(400, 507)),
        },
        "/v1/jobs/{id}": {
            "get": _does(
                "A job; with since, what happened after an event",
                200,
                {"anyOf": [status, news]},
                [_ID, since],
                refusals=(400, 404),
            )
        },
        "/v1/jobs/{id}/events": {
            "get": _does(
                "A job's events as they come, each an Event, until it has ended",
                200,
                stream,
                [_ID, since, {**since, "name": "Last-Event-ID", "in": "header"}],
                refusals=(400, 404, 429),
            )
        },
        "/v1/jobs/{id}/cancel": {
            "post": _does("Cancel a job", 200, status, [_ID], refusals=(404,))
        },
        "/v1/jobs/{id}/files/{role}": {
            "get": _does(
                "A result's file, such as image; of a running job, preview: its newest picture",
                200,
                {"*/*": {}},
                [_ID, role],
                refusals=(404,),
            )
        },
        "/v1/storage": {"get": _does("Bytes that results take, and may take", 200, storage)},
        "/v1/clients/join": {
            "post": _does(
                "Stay while a process lives",
                200,
                _object({"joined": {"const": True}}),
                body=_object({"pid": _PID}),
                refusals=(400,),
            )
        },
        "/v1/clients/leave": {
            "post": _does(
                "A process needs the service no more; its jobs are cancelled",
                200,
                _object({"stopping": {"type": "boolean"}}),
                body=_object({"pid": _PID}),
                refusals=(400,),
            )
        },
        "/v1/shutdown": {
            "post": _does("Stop the service", 202, _object({"stopping": {"const": True}}))
        },
    }


def _does(
    about: str,
    code: int,
    answer: Schema,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    refusals: tuple[int, ...] = (),
) -> Schema:
    """An operation. Every one may also refuse for what the guard in front of it sees."""
    content = answer if any("/" in each for each in answer) else _json(answer)
    refused = {"description": "Refused, in words", "content": _json(_to("Refusal"))}
    found: Schema = {
        "summary": about,
        "responses": {
            str(code): {"description": "Done", "content": content},
            **{str(each): refused for each in sorted({*refusals, 401, 403, 413, 421})},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"required": True, "content": _json(body)}
    return found


def _query(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": about}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
