"""Workstation only: from a Keras model to small files, and the proof that they still say the same."""
