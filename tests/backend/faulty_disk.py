"""A disk under SQLite that fails when told to, half-way through a write: a VFS made with ctypes."""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p

__all__ = ["FULL", "SYNC", "WRITE", "Disk", "faulty_disk"]

FULL, WRITE, SYNC = 13, 10 | 3 << 8, 10 | 4 << 8  # SQLITE_FULL, SQLITE_IOERR_WRITE, …_FSYNC

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


# A connection that is forgotten is closed whenever Python gets to it: what it calls must be there.
_kept: list[object] = []


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("path_length", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _Open),
        ("others", c_void_p * 14),
    ]


class _Methods(Structure):
    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        ("others", c_void_p * 13),
    ]


class _File(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class Disk:
    """Counts what reaches the disk (writes, truncations, syncs) and fails it as asked.

    Attributes:
        count: how many there were since `fail`.
    """

    def __init__(self) -> None:
        self._code = 0
        self._at = 0
        self._lasting = False
        self.count = 0

    def fail(self, at: int, code: int, *, lasting: bool) -> None:
        """Fail number `at` from now, counted from 1; all later ones too if `lasting`."""
        self._at, self._code, self._lasting, self.count = at, code, lasting, 0

    def mend(self) -> None:
        self._at = 0

    def next(self, sync: bool = False) -> int:
        """The error of the next operation; 0 if it succeeds."""
        self.count += 1
        due = self._at and (self.count == self._at or (self._lasting and self.count > self._at))
        if not due:
            return 0
        return SYNC if sync and self._code == WRITE else self._code


@contextmanager
def faulty_disk() -> Iterator[Disk]:
    """All databases that are opened inside are on this disk.

    Raises:
        AttributeError: this Python's SQLite cannot be reached.
    """
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_register.argtypes = (c_void_p, c_int)
    library.sqlite3_vfs_unregister.argtypes = (c_void_p,)
    real = library.sqlite3_vfs_find(None)
    disk = Disk()
    known: dict[int, _Methods] = {}

    def wrap(methods: _Methods) -> _Methods:
        real_write, real_truncate, real_sync = methods.write, methods.truncate, methods.sync

        def write(file: int, data: int, size: int, offset: int) -> int:
            error = disk.next()
            if error:
                real_write(file, data, size // 2, offset)
            return error or int(real_write(file, data, size, offset))

        def truncate(file: int, size: int) -> int:
            return disk.next() or int(real_truncate(file, size))

        def sync(file: int, flags: int) -> int:
            return disk.next(sync=True) or int(real_sync(file, flags))

        wrapped = _Methods.from_buffer_copy(methods)
        wrapped.write, wrapped.truncate, wrapped.sync = (
            _Write(write),
            _Truncate(truncate),
            _Sync(sync),
        )
        _kept.append((wrapped.write, wrapped.truncate, wrapped.sync))
        return wrapped

    real_open = real.contents.open

    def open_file(vfs: int, name: int, file: int, flags: int, out: int) -> int:
        code = int(real_open(addressof(real.contents), name, file, flags, out))
        opened = _File.from_address(file)
        if code == 0 and opened.methods:
            place = addressof(opened.methods.contents)
            if place not in known:
                known[place] = wrap(opened.methods.contents)
            opened.methods = ctypes.pointer(known[place])
        return code

    shim = _Vfs.from_buffer_copy(real.contents)
    shim.name, shim.open, shim.next = b"faulty", _Open(open_file), None
    _kept.append((shim, shim.open, known))
    assert library.sqlite3_vfs_register(addressof(shim), 1) == 0
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(addressof(shim))
        library.sqlite3_vfs_register(addressof(real.contents), 1)
