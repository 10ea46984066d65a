"""HTML pages for people, each one file."""
