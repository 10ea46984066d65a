"""Pixels in, pixels or numbers out; no model."""
