"""What the operators that hand work to the backend have in common."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from ..link import polling
from ..link.client import LinkError
from ..link.session import Task
from ..preferences import connect

__all__ = ["busy_message", "run"]


def run(operator: bpy.types.Operator, make: Callable[[], Task]) -> set[str]:
    """Start the backend if need be and give it a task.

    With an interface the operator returns at once and the timer follows the task; without one it
    waits, with progress on the terminal.
    """
    try:
        connect()
        task = make()
        if bpy.app.background:
            operator.report({"INFO"}, polling.wait(task))
        else:
            polling.start_task(task)
    except LinkError as error:
        polling.tell(error.message, error.remedy, error=True)
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    return {"FINISHED"}


def busy_message(title: str) -> str:
    """Why a task named `title` cannot start now; empty when it can."""
    if any(task.title == title for task in polling.session.tasks):
        return f"{title} is under way already"
    return ""
