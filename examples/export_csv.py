"""Every cell of a store as CSV, and each slide's count; python export_csv.py STORE FILE.csv."""

import sys
from pathlib import Path

from bloodcell_edge import Reader, export_csv

with Reader.open(sys.argv[1]) as store:
    with Path(sys.argv[2]).open("w", encoding="utf-8", newline="") as stream:
        rows = export_csv(store, stream)
    print(f"{rows} rows")
    for reading in store.readings():
        found = store.differential(reading, cells=100)
        print(f"{reading.slide}, {reading.model}: {found.status}, {found.unidentified} unidentified")
        for label, share in found.shares.items():
            interval = f", 95 % interval {share.low:.1f} to {share.high:.1f} %" if share else ""
            print(f"  {label} {found.counts[label]}{interval}")
