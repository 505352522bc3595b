"""Losses of sentence-transformers that `install` replaces."""

from __future__ import annotations

from fastloss.torch._foreign import Foreign

__all__ = ["FOREIGN"]

FOREIGN: tuple[Foreign, ...] = ()
