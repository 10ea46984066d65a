"""Labelled pictures: found, grouped by photograph, split, and asked about; no TensorFlow."""
