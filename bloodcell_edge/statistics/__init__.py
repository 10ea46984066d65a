"""Figures of answers, and their intervals; numpy alone."""
