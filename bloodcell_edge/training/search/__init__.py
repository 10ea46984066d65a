"""The search for small, fast and accurate networks."""
