"""The service's OpenAPI document as a page to read, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["to_markdown"]

_BEGIN = """\
Start the service; it prints one line of JSON with its port and its token, and ends when its
standard input closes:

```
python -m backend serve --root /data
{"port": 40123, "token": "…", "pid": 4711, "protocol": …, "version": "…"}
```

Every request carries the token:

```
curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:40123/v1/hello
curl -H "Authorization: Bearer $TOKEN" --json '{"kind": "preview", "reference": "/data/photo.jpg",
  "input": "/data/bird.png", "out": "/data/look.png"}' http://127.0.0.1:40123/v1/jobs
curl -H "Authorization: Bearer $TOKEN" "http://127.0.0.1:40123/v1/jobs/$ID?since=0"
curl -H "Authorization: Bearer $TOKEN" -N http://127.0.0.1:40123/v1/jobs/$ID/events
```
"""
_LIMITS = {"minimum": "from", "maximum": "to", "pattern": "like"}


def to_markdown(document: Mapping[str, Any]) -> str:
    """The whole page: how to begin, every route, every shape."""
    info = document["info"]
    lines = [
        f"# {info['title']}'s HTTP service",
        "",
        "Made from the service's own schema by `python -m backend api --markdown`; the same in "
        "OpenAPI: `python -m backend api`, or `GET /v1/openapi.json`.",
        "",
        info["description"],
        "",
        _BEGIN,
        "## Routes",
        "",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _route(f"{method.upper()} {path}", operation)
    lines += ["## Shapes", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += _shape(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _route(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### `{title}`", "", f"{operation['summary']}.", "")
    for each in operation.get("parameters", ()):
        about = f": {each['description']}" if "description" in each else ""
        yield f"- {each['in']} `{each['name']}` ({_type(each['schema'])}){about}"
    if "requestBody" in operation:
        yield f"- body: {_content(operation['requestBody'])}"
    refused = []
    for code, answer in operation["responses"].items():
        if code < "400":
            yield f"- {code}: {_content(answer)}"
        else:
            refused.append(code)
    yield from (f"- {', '.join(refused)}: {_link('Refusal')}", "")


def _content(holder: Mapping[str, Any]) -> str:
    ((kind, content),) = holder["content"].items()
    found = _type(content["schema"]) if "schema" in content else "the file"
    return found if kind == "application/json" else f"{found} ({kind})"


def _shape(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "")
    if "description" in schema:
        yield from (" ".join(schema["description"].split()), "")
    if "properties" not in schema:
        yield from (f"{_type(schema)}.", "")
        return
    yield from ("| field | type | default | what |", "|---|---|---|---|")
    for field, each in schema["properties"].items():
        default = "required" if field in schema["required"] else _value(each.get("default"))
        cells = (f"`{field}`", _type(each), default, each.get("description", ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return " or ".join(_type(each) for each in schema[choice])
    if "const" in schema:
        return _value(schema["const"])
    if "enum" in schema:
        return ", ".join(_value(each) for each in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "properties" in schema:
        fields = (f"{name}: {_type(each)}" for name, each in schema["properties"].items())
        return f"{{{', '.join(fields)}}}"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    limits = [
        f"{word} {schema[name]}" if name != "pattern" else f"{word} `{schema[name]}`"
        for name, word in _LIMITS.items()
        if name in schema
    ]
    return " ".join([" or ".join(kinds), *limits])


def _value(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"
