"""Watch an MJPEG stream in a process of its own, whose memory holds nothing else.

    python mjpeg_watcher.py URL

Answers each line on stdin with one on stdout: resident bytes, frames, losses and recoveries so far.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path

from bloodcell_edge.capture import open_source

counts: Counter[str] = Counter()
source = open_source(sys.argv[1], notice=lambda notice: counts.update([notice.kind]))


def watch() -> None:
    """Take every frame."""
    for _ in source:
        counts["frames"] += 1


thread = threading.Thread(target=watch)
thread.start()
for _ in sys.stdin:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    sys.stdout.write(f"{resident} {counts['frames']} {counts['lost']} {counts['back']}\n")
    sys.stdout.flush()
source.stop()
thread.join()
source.close()
