"""What a store counted, with sqlite3 alone; python read_store.py STORE. Its tables: bloodcell_edge/slide/tables.py."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

COUNT = """
    SELECT slides.name, models.name, cells.label, count(*)
    FROM cells JOIN fields ON fields.id = cells.field_id
    JOIN slides ON slides.id = fields.slide_id JOIN models ON models.id = fields.model_id
    WHERE cells.counted = 1 GROUP BY slides.id, models.id, cells.label
"""
with closing(sqlite3.connect(f"{Path(sys.argv[1]).absolute().as_uri()}?mode=ro", uri=True)) as store:
    for slide, model, label, n in store.execute(COUNT):
        print(f"{slide}, {model}: {n} {label}")
    refused = "SELECT path, reason FROM fields WHERE status = 'refused' ORDER BY id"
    for path, reason in store.execute(refused):
        print(f"refused: {path}, {reason}")
