"""Public picture sets."""

from __future__ import annotations

import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ..errors import DownloadError, RuntimeMissing
from ..files import refuse_existing

KAGGLE_SET = "paultimothymooney/blood-cells"
"""9,957 TRAIN and 2,487 TEST images made from 348 photographs of BCCD; Kaggle lists the MIT licence."""


def fetch_kaggle(out: Path, *, force: bool = False) -> Path:
    """Download the Kaggle blood-cells set and put it into a folder.

    Args:
        out: folder to make.
        force: replace it where it is there.

    Returns:
        The folder, which every command takes as DATA.

    Raises:
        OutputExists: the folder is there.
        RuntimeMissing: kagglehub is not installed.
        DownloadError: no network, or Kaggle refuses.
    """
    refuse_existing(out, force=force)
    try:
        import kagglehub
    except ImportError as error:
        message = 'kagglehub is not installed; pip install "bloodcell-edge[train]"'
        raise RuntimeMissing(message) from error
    try:
        with redirect_stdout(sys.stderr):  # kagglehub may speak on stdout, which is for answers
            cached = Path(kagglehub.dataset_download(KAGGLE_SET))
    except Exception as error:  # whatever requests, urllib3 and kagglehub raise
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else 'no reason given'}"
        message = (
            f"{KAGGLE_SET} cannot be fetched ({reason}). Download it where there is a network, unpack it into {out}, "
            f"and run bce audit {out}"
        )
        raise DownloadError(message) from error
    temporary = out.with_name(f".{out.name}-partial")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(cached, temporary)
    if out.exists():
        shutil.rmtree(out)
    temporary.rename(out)
    return out
