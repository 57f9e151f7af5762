"""The libraries' own words kept off the terminal: what matters is said in ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import diffusers.utils.logging
import transformers.utils.logging

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of diffusers and transformers from now on; for the while, errors alone."""
    libraries = diffusers.utils.logging, transformers.utils.logging
    before = [each.get_verbosity() for each in libraries]
    for each in libraries:
        each.disable_progress_bar()
        each.set_verbosity_error()
    try:
        yield
    finally:
        for each, verbosity in zip(libraries, before):
            each.set_verbosity(verbosity)
