"""A stand-in for `python -m backend`: the contract's protocol, without models.

    python fake_service.py serve --root DIR [--parent PID]

Behaviour is set by the environment: FAKE_STEPS (steps of a job, default 3), FAKE_SECONDS (pause a
step of training, default 0; a twentieth of it for other jobs), FAKE_FAIL (message of every job's
failure), FAKE_PROTOCOL, FAKE_SILENT (never announce), FAKE_WORDS (print this in place of the
announcement), FAKE_CRASH (end in mid-job), FAKE_HOLD (training waits while this file exists).
Answers are spelt out here rather than taken from the add-on, so that tests compare two sides.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "a-token"
STEPS = int(os.environ.get("FAKE_STEPS", "3"))
SECONDS = float(os.environ.get("FAKE_SECONDS", "0"))
PROTOCOL = int(os.environ.get("FAKE_PROTOCOL", "1"))

jobs: dict[str, dict[str, Any]] = {}


def carry_out(job: dict[str, Any]) -> dict[str, Any]:
    """Leave the files that a real job of this kind leaves, as far as the add-on looks at them."""
    out = Path(job["out"])
    if job["kind"] == "train":
        out.mkdir(parents=True)
        shutil.copy(job["reference"], out / "reference.png")
        style = {"schema": 1, "name": out.name, "profile": "starter", "thread_width_px": 4.0}
        (out / "style.json").write_text(json.dumps(style))
        return {"outputs": {"style": str(out)}, "measures": {"loss": 0.5}, "seconds": {"one": 2.0}}
    out.parent.mkdir(parents=True, exist_ok=True)
    picture = os.environ.get("FAKE_PICTURE") or job["input" if "input" in job else "mask"]
    shutil.copy(picture, out)
    return {"outputs": {"image": str(out)}, "measures": {}, "seconds": {"denoise": 1.5}}


def work(id: str, job: dict[str, Any]) -> None:
    status = jobs[id]
    status["state"] = "running"
    for step in range(1, STEPS + 1):
        end = time.monotonic() + (SECONDS if job["kind"] == "train" else SECONDS / 20)
        held = job["kind"] == "train" and "FAKE_HOLD" in os.environ
        while status["state"] == "running" and (
            time.monotonic() < end or (held and Path(os.environ["FAKE_HOLD"]).exists())
        ):
            time.sleep(0.01)
        if status["state"] != "running":
            return
        if os.environ.get("FAKE_CRASH"):
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(9)
        status["progress"] = {
            "stage": "stage one",
            "step": step,
            "steps": STEPS,
            "seconds_left": (STEPS - step) * SECONDS,
            "message": "",
            "preview": job["reference"] if job["kind"] == "train" else None,
        }
    if os.environ.get("FAKE_FAIL"):
        status.update(state="failed", error=os.environ["FAKE_FAIL"], remedy="Try another.")
        return
    status["result"] = carry_out(job)
    status["state"] = "done"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, code: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        self.route("GET", {})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.route("POST", json.loads(raw or b"{}"))

    def route(self, method: str, body: dict[str, Any]) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "The token is missing or wrong.", "remedy": ""})
            return
        parts = self.path.partition("?")[0].strip("/").split("/")[1:]
        if parts == ["hello"]:
            hello = {"protocol": PROTOCOL, "version": "9.9", "profiles": ["starter"]}
            self.answer(200, {**hello, "pid": os.getpid()})
        elif parts == ["jobs"] and method == "POST":
            if "refuse" in str(body.get("out")):
                self.answer(400, {"error": "Outside the roots.", "remedy": "Use a root."})
                return
            id = f"job{len(jobs) + 1}"
            jobs[id] = {"id": id, "kind": body["kind"], "state": "queued"}
            threading.Thread(target=work, args=(id, body), daemon=True).start()
            self.answer(201, jobs[id])
        elif len(parts) == 2 and parts[1] in jobs:
            self.answer(200, jobs[parts[1]])
        elif len(parts) == 3 and parts[2] == "cancel" and parts[1] in jobs:
            jobs[parts[1]]["state"] = "cancelled"
            self.answer(200, jobs[parts[1]])
        elif parts == ["clients", "join"]:
            self.answer(200, {"joined": True})
        elif parts == ["clients", "leave"]:
            self.answer(200, {"stopping": True})
            threading.Thread(target=self.server.shutdown, daemon=True).start()
        else:
            self.answer(404, {"error": "There is no such job.", "remedy": ""})


def main() -> None:
    if os.environ.get("FAKE_SILENT"):
        sys.exit("error: no weights found")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    reach = {"port": server.server_port, "token": TOKEN, "pid": os.getpid()}
    line = json.dumps({**reach, "protocol": PROTOCOL, "version": "9.9"})
    print(os.environ.get("FAKE_WORDS") or line, flush=True)

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
