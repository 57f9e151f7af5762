"""After a restart: what became of the jobs that ran when the service ended."""

from __future__ import annotations

import logging
from contextlib import suppress

from backend.checks import remove_leftovers
from backend.service.receipts import Receipt
from backend.service.records import Records
from backend.service.store import JobStore

__all__ = ["recover"]

_log = logging.getLogger(__name__)


def recover(store: JobStore, records: Records) -> None:
    """Settle the jobs that were running; no worker may run any more.

    One whose worker had finished is done, and does not run again. One that was being cancelled is
    cancelled. Any other waits again, in its old place; training then goes on from its checkpoint.

    Raises:
        StoreError: this cannot be noted; what was noted so far stands.
    """
    for id, cancelling in store.interrupted():
        receipt = Receipt.settled(records.receipt(id))
        with suppress(OSError):
            remove_leftovers(store.job(id), finished=receipt is not None)
        if receipt is not None:
            status = store.done(id, receipt.result, receipt.artefacts)
        elif cancelling:
            status = store.cancelled(id)
        else:
            status = store.requeue(id)
        _log.info("job %s (%s) was interrupted: now %s", id, status.kind, status.state)
    for path in records.receipts():
        with suppress(OSError):
            path.unlink()
