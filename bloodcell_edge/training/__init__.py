"""Workstation only: training, search. Nothing in a device room imports from here."""
