"""A labelled picture as models are shown it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..model.locator import shipped_locator

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..imaging.located import Locator
    from ..imaging.views import Shown, View
    from .pictures import Picture


def shown_labelled(picture: Picture, image: Image, view: View, locate: Locator | None = None) -> Shown | None:
    """A labelled picture's most prominent cell, or with view "frame" all of it; None where no cell is found.

    Args:
        picture: tells its scale, where that is known.
        image: its pixels, uint8 RGB, shape (height, width, 3).
        view: how the model is shown pictures.
        locate: finds its cells, None for the shipped locator; not asked by view "frame".
    """
    return shown_in_each(picture, image, (view,), locate)[view]


def shown_in_each(
    picture: Picture, image: Image, views: Iterable[View], locate: Locator | None = None
) -> dict[View, Shown | None]:
    """As `shown_labelled`, in several views; its cells are located once.

    Args:
        picture: as for `shown_labelled`.
        image: likewise.
        views: those of the models that are asked.
        locate: as for `shown_labelled`.
    """
    wanted = tuple(views)
    needed = any(view.needs_cells for view in wanted)
    located = (locate or shipped_locator())(image, um_per_px=picture.um_per_px) if needed else None
    return {view: view.show_labelled(image, located) for view in wanted}
