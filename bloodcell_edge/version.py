"""The version of bce: of the package, and of what wrote a file."""

__version__ = "0.1.0"
