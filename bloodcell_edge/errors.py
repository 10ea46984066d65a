"""Every error this project raises on purpose.

Each is ours and a builtin, so that a script may catch either::

    BceError(Exception)
    ├── DataError(ValueError)             a folder, CSV or label that does not say what it must
    │   └── NoPictures(DataError)         nothing readable where pictures were expected
    ├── PictureError(ValueError)          one picture that cannot be decoded
    ├── MissingFile(FileNotFoundError)    a path that is not there
    ├── OutputExists(FileExistsError)     refusing to overwrite
    ├── SpecError(ValueError)             a model file and its spec do not fit each other
    ├── ConversionError(ValueError)       a model cannot be converted as asked
    ├── RuntimeMissing(ImportError)       no interpreter, or an optional package is not installed
    ├── DownloadError(OSError)            a download failed; the message says where the file belongs
    ├── SourceError(OSError)              a source of pictures: a URL that means nothing, a camera that is gone
    ├── StoreError(OSError)               the file of results cannot be opened, written or understood
    │   └── DiskFull(StoreError)          there is no room for it; what was taken in is kept and tried again
    └── GateFailure(AssertionError)       a gate did not hold (exit code 4)

A message says what, where, what was expected, what was found, and what to do, in one line.
"""


class BceError(Exception):
    """Base of all errors that the command line shows as one line, exit code 1."""


class DataError(BceError, ValueError):
    """A folder, CSV file or label does not say what it must."""


class NoPictures(DataError):
    """Nothing readable was found where pictures were expected."""


class PictureError(BceError, ValueError):
    """One picture cannot be decoded."""


class MissingFile(BceError, FileNotFoundError):
    """A path does not exist."""


class OutputExists(BceError, FileExistsError):
    """An output is there already and overwriting was not asked for."""


class SpecError(BceError, ValueError):
    """A model file, its labels, its spec or its hash do not fit each other."""


class ConversionError(BceError, ValueError):
    """A model cannot be converted as asked, or the result is not what was asked for."""


class RuntimeMissing(BceError, ImportError):
    """No TFLite interpreter works here, or an optional package is not installed."""


class DownloadError(BceError, OSError):
    """A download failed; the message says where the file belongs."""


class SourceError(BceError, OSError):
    """A source of pictures cannot be opened as asked, or gives no more."""


class StoreError(BceError, OSError):
    """The file of results cannot be opened, written or understood: in use, damaged, of a newer bce."""


class DiskFull(StoreError):
    """There is no room for results on the disk: what was taken in is kept and tried again."""


class GateFailure(BceError, AssertionError):
    """A gate did not hold: parity, audit, benchmark. The command line exits with 4."""
