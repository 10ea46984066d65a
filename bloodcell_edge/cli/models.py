"""Opening what a command was given, Keras or TFLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
