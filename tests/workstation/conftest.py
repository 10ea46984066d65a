"""The fixtures of tests/support/trained.py: networks in run folders, and the pictures they know."""

from locator_data import boxed_fields, locator_run, single_cells  # noqa: F401 - fixtures
from trained import (  # noqa: F401 - fixtures, and a hook
    cell_run,
    colours,
    drawn,
    drawn_backbone,
    drawn_cells,
    own_colours,
    own_run,
    pytest_itemcollected,
    tiny_run,
    workspace,
)
