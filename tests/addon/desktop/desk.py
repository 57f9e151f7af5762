"""A desktop Blender under Xvfb with the packaged extension, driven by mouse and keyboard.

Needs Xvfb, xdotool, xwd and ImageMagick's convert beside the Blender named by BLENDER.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SIZE = (1600, 1200)
PATIENCE = 400.0
NEEDED = ("Xvfb", "xdotool", "xwd", "convert")


def until(look: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


def environment(folder: Path) -> dict[str, str]:
    """Blender's user folders and ours inside `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {
        **kept,
        "HOME": str(folder),
        "BLENDER_USER_RESOURCES": str(folder / "blender"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "STITCHWORK_DESK": str(folder),
        "LIBGL_ALWAYS_SOFTWARE": "1",
    }


def build_extension(blender: str, folder: Path) -> Path:
    """The extension's zip, made and checked by Blender's own tools."""
    source, out = folder / "source", folder / "zip"
    out.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.blend1")
    shutil.copytree(ROOT / "blender_addon", source, ignore=ignored)
    # A backend that cannot be installed: what Install shows is told by a stand-in for Python.
    (source / "dist").mkdir()
    (source / "dist" / "stitchwork_backend-0-py3-none-any.whl").touch()
    for lock in ("backend.lock", "cuda.lock"):
        shutil.copy(ROOT / lock, source / "dist")
    tool = [blender, "--command", "extension"]
    run = {"env": environment(folder), "check": True, "capture_output": True}
    subprocess.run([*tool, "build", "--source-dir", source, "--output-dir", out], **run)  # type: ignore[call-overload]
    (archive,) = out.glob("*.zip")
    subprocess.run([*tool, "validate", archive], **run)  # type: ignore[call-overload]
    return archive


class Desk:
    """One X server and one Blender in it."""

    def __init__(self, blender: str, folder: Path, archive: Path, backend_python: Path) -> None:
        self.folder = folder
        install = ["--command", "extension", "install-file", "-r", "user_default", "-e", archive]
        done = subprocess.run(
            [blender, *install], env=environment(folder), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._errors = (folder / "stderr.txt").open("wb")
        read, write = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24"],
            pass_fds=(write,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as announced:
            display = f":{announced.readline().strip()}"
        self._variables = {
            **environment(folder),
            "DISPLAY": display,
            "STITCHWORK_BACKEND_PYTHON": str(backend_python),
        }
        self._blender = subprocess.Popen(
            [
                *(blender, "--window-geometry", "0", "0", *map(str, SIZE)),
                *("--python", HERE / "inside.py"),
            ],
            env=self._variables,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        try:
            until((folder / "ready").exists, "Blender's start")
            self.ask("show_sidebar()")
            time.sleep(1.0)
            self.ask("show_tab()")
        except AssertionError:
            self.close(kill=True)
            raise

    def ask(self, question: str) -> Any:
        """Run Python in Blender's main thread between redraws; returns what it calls `answer`."""
        reply = self.folder / "answer.json"
        aside = self.folder / "question.partial"
        aside.write_text(question)
        aside.replace(self.folder / "question.py")
        until(lambda: reply.exists() or self._blender.poll() is not None, "an answer from Blender")
        assert self._blender.poll() is None, f"Blender crashed at: {question}"
        data = json.loads(reply.read_text())
        reply.unlink()
        assert "error" not in data, data["error"]
        return data["answer"]

    def x(self, *command: str) -> None:
        subprocess.run(["xdotool", *command], env=self._variables, check=True)

    def click(self, operator: str, *, small: bool = False) -> None:
        """Press the button of an operator with the mouse.

        Args:
            small: it is the last of its row; found sooner so.
        """
        place = self.ask(f"answer = find({operator!r}{', (0.84,)' if small else ''})")
        assert place, f"the sidebar has no button for {operator}"
        x, y = place[0], SIZE[1] - 1 - place[1]
        # A slow machine draws between these; a button must have seen the mouse before the press.
        self.x("mousemove", str(x), str(y + 2), "sleep", "0.4", "mousemove", str(x), str(y))
        self.x("sleep", "0.4", "mousedown", "1", "sleep", "0.2", "mouseup", "1", "sleep", "0.4")
        self.x("mousemove", str(SIZE[0] // 3), str(SIZE[1] // 2))

    def picture(self, path: Path) -> Path:
        """A screenshot as PNG."""
        raw = self.folder / "screen.xwd"
        subprocess.run(["xwd", "-root", "-silent", "-out", raw], env=self._variables, check=True)
        subprocess.run(["convert", f"xwd:{raw}", path], check=True, stderr=subprocess.DEVNULL)
        return path

    def errors(self) -> list[str]:
        """Lines on Blender's stderr that speak of the add-on or of Python."""
        self._errors.flush()
        lines = (self.folder / "stderr.txt").read_text(errors="replace").splitlines()
        harmless = ("mounted file-systems", "libEGL", "MESA", "ALSA", "XDG_RUNTIME_DIR")
        return [each for each in lines if each and not any(word in each for word in harmless)]

    @property
    def pid(self) -> int:
        return self._blender.pid

    def below(self) -> list[int]:
        """Processes that Blender started, and those that they started (Linux)."""
        found, waiting = [], [self.pid]
        while waiting:
            for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                children = [int(each) for each in task.read_text().split()]
                waiting += children
                found += children
        return found

    def terminate(self) -> None:
        """End Blender as a session's end does, without asking it."""
        self._blender.terminate()
        self._blender.wait(60)

    def close(self, *, kill: bool = False) -> None:
        """End Blender, by its own quit operator or by force, and the X server."""
        if self._blender.poll() is None:
            if not kill:
                (self.folder / "question.py").write_text("bpy.ops.wm.quit_blender()")
            else:
                self._blender.kill()
            try:
                self._blender.wait(30)
            except subprocess.TimeoutExpired:
                self._blender.kill()
                self._blender.wait()
        self._server.terminate()
        self._server.wait()
        self._errors.close()
