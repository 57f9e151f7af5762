"""The SQLite file under the job table: its schema, its transactions, its errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backend.errors import InputError, ResourceError

__all__ = ["SCHEMA_VERSION", "Database", "StoreError"]

SCHEMA_VERSION = 2
_BUSY_SECONDS = 2.0
_CACHE_KIB = 256
_EVENTS = """CREATE TABLE events (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        n INTEGER NOT NULL,
        state TEXT,
        progress TEXT,
        log TEXT,
        PRIMARY KEY (job, n),
        CHECK ((state IS NOT NULL) + (progress IS NOT NULL) + (log IS NOT NULL) = 1)
    ) WITHOUT ROWID"""
_SCHEMA = (
    """CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        job TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        owner INTEGER,
        key TEXT UNIQUE,
        cancelling INTEGER NOT NULL DEFAULT 0,
        result TEXT,
        error TEXT NOT NULL DEFAULT '',
        remedy TEXT NOT NULL DEFAULT '',
        CHECK ((state = 'done') = (result IS NOT NULL))
    )""",
    "CREATE INDEX unfinished ON jobs (seq) WHERE state IN ('queued', 'running')",
    """CREATE TRIGGER final_stays BEFORE UPDATE ON jobs
        WHEN OLD.state IN ('done', 'failed', 'cancelled')
        BEGIN SELECT RAISE(ABORT, 'a finished job does not change'); END""",
    _EVENTS,
    """CREATE TABLE artefacts (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        role TEXT NOT NULL,
        path TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, path)
    ) WITHOUT ROWID""",
)
# From each version to the next.
_CHANGES = {
    1: (
        "ALTER TABLE events RENAME TO old_events",
        _EVENTS,
        "INSERT INTO events SELECT job, n, state, progress, NULL FROM old_events",
        "DROP TABLE old_events",
    ),
}
_WORDS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space, then try again."),
    sqlite3.SQLITE_IOERR: (
        "the disk does not read or write it",
        "Free some space and check the disk, then try again.",
    ),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", ""),
    sqlite3.SQLITE_NOTADB: ("it is damaged", ""),
    sqlite3.SQLITE_BUSY: ("another program holds it", "Close that program, then try again."),
}
_DAMAGED = "Move it away and start again: its list of jobs is lost, finished files stay."


class StoreError(ResourceError):
    """The job table cannot be read or written; what was asked for has not happened."""


class Database:
    """One connection, for one thread.

    Args:
        path: the file, made if absent; None: in memory.

    Raises:
        InputError: a newer version has written it.
        StoreError: it cannot be opened, or is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._name = str(path) if path is not None else "the job table in memory"
        with self._in_words():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None
            )
        try:
            with self._in_words():
                self._prepare()
        except (InputError, StoreError):
            self.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA journal_mode = WAL")
        # SQLite's own cache would grow for hours, to no use: the system has the file in memory.
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{self._name}: a newer Stitchwork has written it (schema {version}, "
                f"this one knows {SCHEMA_VERSION}).",
                "Update the backend, or give --data another folder.",
            )
        if self.problems():
            raise StoreError(f"{self._name}: it is damaged.", _DAMAGED)
        if version < SCHEMA_VERSION:
            changes = [_CHANGES[each] for each in range(version, SCHEMA_VERSION) if each]
            with self.writing():
                for statement in sum(changes, ()) if version else _SCHEMA:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[None]:
        """All that is executed inside, or nothing.

        Args:
            durable: whether it is to outlast a power cut; without, a later durable one takes it
                along, and only the newest of these may be lost.

        Raises:
            StoreError: nothing of it has happened.
        """
        with self._in_words():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")

    def execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    def rows(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """What a query finds.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._in_words():
            return self._connection.execute(statement, values).fetchall()

    def problems(self) -> list[str]:
        """What is wrong with the file's structure; nothing, as a rule."""
        found = [text for (text,) in self.rows("PRAGMA integrity_check") if text != "ok"]
        return found + [str(row) for row in self.rows("PRAGMA foreign_key_check")]

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind of error, the rest its details.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            what, remedy = _WORDS.get(code, (str(error), "Check the file, then try again."))
            raise StoreError(f"{self._name}: {what}.", remedy or _DAMAGED) from error
