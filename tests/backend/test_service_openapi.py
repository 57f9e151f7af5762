"""The service is what its document says: every route, every field, every answer; and no 5xx."""

from __future__ import annotations

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from running import ROOT

from backend.cli import main
from backend.jobs import JOB_TYPES, JobError, Progress, Result, job_from_dict
from backend.service.app import Service
from backend.service.artefacts import measure
from backend.service.events import LogLine
from backend.service.openapi import openapi
from backend.service.queue import Queue
from backend.service.security import Guard, Roots
from backend.service.store import JobStore

PORT, TOKEN = 4711, "the-token"
Schema = dict[str, Any]
DOCUMENT = openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 0.5, 2**31, 2**63, -1e300, "", " ", "é" * 99, "../..", "/"),
    *("\0", "\ud800", [], [1], {}, {"a": 1}, "auto", "starter", "preview", "a" * 3000),
)


def conforms(schema: Schema, value: Any) -> bool:
    """Whether a value is as a schema of the document says (the part of JSON Schema it uses)."""
    if "$ref" in schema:
        return conforms(SCHEMAS[schema["$ref"].rpartition("/")[2]], value)
    for word, count in (("oneOf", {1}), ("anyOf", range(1, 99))):
        if word in schema and sum(conforms(each, value) for each in schema[word]) not in count:
            return False
    if "const" in schema and (
        value != schema["const"] or isinstance(value, bool) is not isinstance(schema["const"], bool)
    ):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(
        isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    ):
        return False
    if isinstance(value, dict):
        fields, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        return set(schema.get("required", [])) <= value.keys() and all(
            conforms(fields[name], each)
            if name in fields
            else (conforms(more, each) if isinstance(more, dict) else more)
            for name, each in value.items()
        )
    if isinstance(value, list):
        return all(conforms(schema.get("items", {}), each) for each in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return not (isinstance(value, str) and "pattern" in schema) or bool(
        re.fullmatch(schema["pattern"], value, re.ASCII)
    )


class Made:
    """Values as the document wants them, by chance from a seed, and values that are nearly so."""

    def __init__(self, seed: int, root: Path) -> None:
        self.chance = random.Random(seed)
        self._root = root

    def good(self, schema: Schema) -> Any:
        chance = self.chance
        if "$ref" in schema:
            return self.good(SCHEMAS[schema["$ref"].rpartition("/")[2]])
        if "const" in schema:
            return schema["const"]
        for word in ("oneOf", "anyOf"):
            if word in schema:
                return self.good(chance.choice(schema[word]))
        if "enum" in schema:
            return chance.choice(schema["enum"])
        kinds = schema.get("type", "object")
        kind = kinds if isinstance(kinds, str) else chance.choice(kinds)
        low = schema.get("minimum", -(10**6))
        high = schema.get("maximum", max(low, 10**6))
        match kind:
            case "integer":
                return chance.choice([low, high, chance.randint(int(low), int(high))])
            case "number":
                return chance.choice([low, high, chance.uniform(low, high)])
            case "string" if "absolute path" in schema.get("description", ""):
                return str(self._root / chance.choice(["a.png", "b/c.png", "style", "é.png"]))
            case "string":
                return chance.choice(["a", "starter", "a red heart", "x-1", "é", "user/model"])
            case "boolean":
                return chance.random() < 0.5
            case "array":
                return [self.good(schema["items"]) for _ in range(chance.randrange(3))]
            case "null":
                return None
        required = schema.get("required", [])
        return {
            name: self.good(each)
            for name, each in schema.get("properties", {}).items()
            if name in required or chance.random() < 0.5
        }

    def nearly(self, schema: Schema) -> Any:
        """Good but for one thing or so."""
        value, chance = self.good(schema), self.chance
        if not isinstance(value, dict) or chance.random() < 0.05:
            return chance.choice(ODD)
        for _ in range(chance.randint(1, 2)):
            name = chance.choice([*value, "colour", "kind", "seed"])
            match chance.randrange(3):
                case 0:
                    value.pop(name, None)
                case 1:
                    value[name] = chance.choice(ODD)
                case 2:
                    value[name.upper()] = value.get(name)
        return value


@pytest.mark.parametrize("kind", JOB_TYPES)
def test_jobs_are_what_the_document_says(kind: str, tmp_path: Path) -> None:
    schema, made = SCHEMAS[JOB_TYPES[kind].__name__], Made(7, tmp_path)
    refused = 0
    for n in range(400):
        data = made.good(schema) if n % 3 == 0 else made.nearly(schema)
        if not isinstance(data, dict) or data.get("kind") != kind:
            continue
        try:
            job_from_dict(data)
            taken = True
        except JobError:
            taken = False
            refused += 1
        assert taken == conforms(schema, data), data
    assert refused > 30
    assert {each for each in schema["properties"]} == {
        "schema",
        "kind",
        *JOB_TYPES[kind].__dataclass_fields__,
    }
    assert all(
        each.get("description")
        for name, each in schema["properties"].items()
        if name not in ("schema", "kind")
    )


def service(root: Path) -> tuple[Service, JobStore]:
    def no(*_: Any) -> Any:
        return False

    store = JobStore()
    return Service(store, Queue(store), Roots([root]), no, no, no), store


def test_every_route_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    routes = {
        (route.path, method.lower())  # type: ignore[attr-defined]
        for route in service(tmp_path)[0].app().routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert routes == {(path, way) for path, ways in DOCUMENT["paths"].items() for way in ways}
    text = json.dumps(DOCUMENT)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in SCHEMAS


def finished(store: JobStore, folder: Path) -> str:
    """A job with everything that an answer may hold."""
    picture = folder / "done.png"
    picture.write_bytes(b"picture")
    paths = {name: str(folder / f"{name}.png") for name in ("reference", "input", "out")}
    id = store.add(job_from_dict({"kind": "preview", **paths})).id
    store.start(id)
    store.progress(id, Progress(stage="s", step=1, steps=2, seconds_left=0.5))
    store.log(id, LogLine("info", "on"))
    result = Result(outputs={"image": str(picture)}, seconds={"s": 0.5})
    store.done(id, result, measure(result))
    return id


@pytest.mark.parametrize("seed", range(2))
def test_the_whole_document_walked_gives_documented_answers(tmp_path: Path, seed: int) -> None:
    async def check() -> None:
        made, (app, store) = Made(seed, tmp_path), service(tmp_path)
        id = finished(store, tmp_path)
        transport = httpx.ASGITransport(
            Guard(app.app(), token=TOKEN, port=PORT), raise_app_exceptions=False
        )
        seen: set[tuple[str, str, int]] = set()
        async with httpx.AsyncClient(
            transport=transport,
            base_url=f"http://127.0.0.1:{PORT}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client:
            for _ in range(12):
                for path, ways in DOCUMENT["paths"].items():
                    for way, operation in ways.items():
                        request = requested(made, path, way, operation, id)
                        answer = await client.request(**request)
                        seen.add((path, way, answer.status_code))
                        fits(operation, answer, request)
                        for status in store.all():  # a stream ends with its job
                            store.cancelled(status.id)
        for path, ways in DOCUMENT["paths"].items():  # not only refusals were looked at
            for way, operation in ways.items():
                good = {int(code) for code in operation["responses"] if code < "400"}
                assert any((path, way, code) in seen for code in good), (path, way)
        assert ("/v1/jobs", "post", 400) in seen
        assert store.problems() == []

    asyncio.run(check())


def requested(made: Made, path: str, way: str, operation: Schema, id: str) -> dict[str, Any]:
    chance = made.chance
    query, headers = {}, {}
    for each in operation.get("parameters", []):
        value = made.good(each["schema"]) if chance.random() < 0.7 else chance.choice(ODD)
        text = str(value).encode("utf-8", "replace").decode()
        if each["in"] == "path":
            usual = id if each["name"] == "id" else "image"
            text = usual if chance.random() < 0.7 else text
            path = path.replace(f"{{{each['name']}}}", quote(text, safe="") or "x")
        elif each["in"] == "header" and chance.random() < 0.5:
            headers[each["name"]] = text.encode("ascii", "replace").replace(b"\0", b"").strip()
        elif chance.random() < 0.5:
            query[each["name"]] = text
    content = b""
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = made.good(schema) if chance.random() < 0.5 else made.nearly(schema)
        content = json.dumps(body).encode()
    return {"method": way, "url": path, "params": query, "headers": headers, "content": content}


def fits(operation: Schema, answer: httpx.Response, request: dict[str, Any]) -> None:
    """An answer is one of those that the document gives for its operation."""
    assert answer.status_code < 500, request
    code = str(answer.status_code)
    # What is odd in a path may lead to another route, or none.
    known = operation["responses"] | {"404": operation["responses"].get("404")}
    if code in ("405", "404") and known.get(code) is None:
        return
    assert code in known, (code, request)
    ((kind, content),) = known[code]["content"].items()
    assert kind in ("*/*", answer.headers["content-type"].partition(";")[0]), request
    if kind == "application/json":
        assert conforms(content["schema"], answer.json()), (request, answer.text[:500])
    if kind == "text/event-stream":
        for line in re.findall(r"^data: (.*)$", answer.text, re.MULTILINE):
            assert conforms(SCHEMAS["Event"], json.loads(line)), line


def test_the_document_needs_the_token(tmp_path: Path) -> None:
    async def check() -> None:
        app, _ = service(tmp_path)
        transport = httpx.ASGITransport(Guard(app.app(), token=TOKEN, port=PORT))
        base = f"http://127.0.0.1:{PORT}"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            assert (await client.get("/v1/openapi.json")).status_code == 401
            token = {"Authorization": f"Bearer {TOKEN}"}
            answer = await client.get("/v1/openapi.json", headers=token)
            assert answer.json() == DOCUMENT

    asyncio.run(check())


def test_the_command_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT


def test_the_page_to_read_is_the_document_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m backend api --markdown > docs/api.md` renews it."""
    assert main(["api", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert page == (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for path, operations in DOCUMENT["paths"].items():
        for method in operations:
            assert f"### `{method.upper()} {path}`" in page
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert f"### {name}\n" in page
        assert all(f"| `{field}` |" in page for field in schema.get("properties", ()))
