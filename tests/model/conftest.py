"""Fixtures for tests of models."""

from made_locator import made_file, made_flatbuffers  # noqa: F401 - fixtures
