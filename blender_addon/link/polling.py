"""Drives the session from Blender's timer, or blocks on it where there is no interface.

The timer runs only while there is something to watch. Everything that touches Blender's data
happens in the timer's callback, which Blender calls between two redraws; no thread does.
"""

from __future__ import annotations

import atexit
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from .client import Endpoint, LinkError
from .folders import data_folder
from .install import Installer
from .locate import find_backend
from .session import RESTARTS, Outcome, Phase, Session, Task
from .terminal import Terminal

__all__ = [
    "Notice",
    "cancel_installation",
    "conclude",
    "connect",
    "disconnect",
    "install",
    "installer",
    "log_file",
    "newest_log",
    "notice",
    "session",
    "start_task",
    "tell",
    "wait",
    "watch",
]

INTERVAL = 0.3
SILENT_INTERVAL = 3.0
CANCEL_SECONDS = 20.0


@dataclass(slots=True)
class Notice:
    """The last thing the panel says: what happened, or what went wrong and what helps."""

    text: str = ""
    remedy: str = ""
    error: bool = False


@dataclass(slots=True)
class _Installation:
    current: Installer | None = None


session = Session()
notice = Notice()
_installation = _Installation()


def installer() -> Installer | None:
    """The installation that runs or has ended, if one was begun."""
    return _installation.current


def log_file() -> Path:
    """Where the add-on's own backend writes what it has to say before it can log, and warnings."""
    return data_folder("logs") / "backend.log"


def newest_log() -> Path:
    """The log to read: the service's own, or that of a start which failed later than that."""
    return max(
        (log_file().with_name("service.log"), log_file()),
        key=lambda path: path.stat().st_mtime if path.exists() else 0.0,
    )


def tell(text: str, remedy: str = "", *, error: bool = False) -> None:
    """Set what the panel says."""
    notice.text, notice.remedy, notice.error = text, remedy, error
    _mirror()
    _redraw()


def connect(
    *,
    python: str = "",
    url: str = "",
    token: str = "",
    roots: tuple[str, ...] = (),
    quota_gb: float = 0.0,
) -> None:
    """Start a backend, or join the one that runs, unless this Blender has one already.

    Without `url` it is the one that serves the add-on's data folder, if another Blender of this
    user has started it.

    Args:
        python: the preference; see `find_backend`.
        url, token: where a backend runs that was started by hand.
        roots: folders beside the add-on's own in which jobs may read and write.
        quota_gb: most gigabytes that results may take, if it is started here; 0: any.

    Raises:
        LinkError: none is installed, it cannot be started, or it does not fit this add-on.
    """
    if session.ready:
        return
    if url:
        session.attach(Endpoint(url, token))
        return
    backend = replace(find_backend(python, data_folder() / "backend"), quota_gb=quota_gb)
    allowed = [data_folder(), *(Path(each).absolute() for each in roots)]
    session.start(backend, roots=allowed, parent=os.getpid(), log=log_file(), data=data_folder())
    watch()


def disconnect() -> None:
    """Stop the backend that was started here, or let go of the attached one."""
    session.stop()
    _redraw()


def start_task(task: Task) -> None:
    """Give a task to the backend and follow it from the timer.

    Raises:
        LinkError: no backend is running, or it refuses the job.
    """
    session.submit(task)
    tell(task.caution)
    watch()


def wait(task: Task, terminal: Terminal | None = None) -> str:
    """Give a task to the backend, show its progress on the terminal, and wait for its end.

    Returns:
        what the task's `finish` says it did.

    Raises:
        LinkError: it failed.
        KeyboardInterrupt: the user interrupted; the job is cancelled first.
    """
    terminal = terminal or Terminal()
    if task.caution:
        terminal.say(f"warning: {task.caution}")
    session.submit(task)
    try:
        outcome = _outcome_of(task, terminal, None)
    except KeyboardInterrupt:
        terminal.say(f"{task.title}: cancelling")
        session.cancel(task)
        _outcome_of(task, None, time.monotonic() + CANCEL_SECONDS)
        raise
    if outcome is None or outcome.error is not None:
        raise outcome.error if outcome and outcome.error else LinkError("The job was lost.")
    if outcome.result is None:
        raise LinkError(f"{task.title} was cancelled.")
    return task.finish(outcome.result)


def _outcome_of(task: Task, terminal: Terminal | None, until: float | None) -> Outcome | None:
    while until is None or time.monotonic() < until:
        restarts, ended = session.restarts, session.step()
        if terminal is not None and session.restarts > restarts:
            terminal.say(f"warning: {_restarting()}")
        for outcome in ended:
            if outcome.task is task:
                if terminal is not None and task.status is not None and outcome.result:
                    terminal.progress(task.title, task.progress)
                return outcome
        if terminal is not None:
            terminal.progress(task.title, task.progress)
        time.sleep(INTERVAL)
    return None


def conclude(outcome: Outcome) -> None:
    """Use a task's result, say what came of it, and make the change one undo step."""
    task = outcome.task
    if outcome.error is not None:
        tell(f"{task.title}: {outcome.error.message}", outcome.error.remedy, error=True)
    elif outcome.result is None:
        tell(f"{task.title} was cancelled; nothing was changed.")
    else:
        try:
            said = task.finish(outcome.result)
        except LinkError as error:
            tell(error.message, error.remedy, error=True)
            return
        tell(said)
        _push_undo(f"Stitchwork: {task.title}")


def install(fresh: Installer) -> None:
    """Begin an installation and follow it from the timer."""
    fresh.begin()
    _installation.current = fresh
    tell("")
    watch()


def cancel_installation() -> None:
    """End the installation that runs, if any; what it left is not used."""
    if _installation.current is not None:
        _installation.current.cancel()
        _installation.current = None
        tell("The installation was cancelled.")


def watch() -> None:
    """Start the timer unless it runs; without an interface, whoever waits drives the session."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=INTERVAL, persistent=True)


def _restarting() -> str:
    """What is said while a backend that ended by itself is started again."""
    return f"The backend ended; it is started again ({session.restarts} of {RESTARTS})."


def _tick() -> float | None:
    before, restarts = session.phase, session.restarts
    for outcome in session.step():
        conclude(outcome)
    if session.restarts > restarts:
        tell(_restarting())
    failure = session.failure
    if failure is not None and before is Phase.STARTING and not notice.error:
        tell(failure.message, failure.remedy, error=True)
    running = _step_installer()
    _mirror()
    _redraw()
    if not (session.busy or running):
        return None
    # A backend that does not answer costs a time-out a look: look less often.
    return INTERVAL if session.silence == 0.0 else SILENT_INTERVAL


def _step_installer() -> bool:
    current = _installation.current
    if current is None or current.done:
        return False
    try:
        running = current.step()
    except LinkError as error:
        _installation.current = None
        tell(error.message, error.remedy, error=True)
        return False
    if current.done:
        tell(" ".join(filter(None, ["The backend is installed.", current.note])))
    return running


def _mirror() -> None:
    """Copy the present job to the scenes, where scripts look for it."""
    task = session.tasks[0] if session.tasks else None
    progress = task.progress if task else None
    for scene in bpy.data.scenes:
        shown = scene.stitchwork
        shown.job_id = task.id if task else ""
        shown.job_stage = progress.stage if progress else ""
        shown.job_progress = progress.step / progress.steps if progress and progress.steps else 0.0
        left = progress.seconds_left if progress else None
        shown.seconds_left = -1.0 if left is None else left
        shown.status = notice.text


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def _push_undo(message: str) -> None:
    windows = bpy.context.window_manager.windows
    if bpy.app.background or not windows:
        return
    with bpy.context.temp_override(window=windows[0]):
        if bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message=message)


def register() -> None:
    atexit.register(session.stop)


def unregister() -> None:
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _installation.current is not None:
        _installation.current.cancel()
    session.tasks.clear()
    session.stop()
    atexit.unregister(session.stop)
