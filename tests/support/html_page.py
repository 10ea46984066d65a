"""A report as a reader takes it apart, for the tests of the pages."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A parsed report: its text, its tables as {caption: rows of cells}, its tags with attributes.

    Fails on a tag that closes nothing or is left open.
    """

    def __init__(self, source):
        super().__init__()
        self.text, self.tags, self.tables, self._open, self._rows = "", [], {}, [], []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "caption":
            self._caption = ""

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside in ("td", "th"):
            self._rows[-1][-1] += data
        elif inside == "caption":
            self._caption += data
        if inside != "style":
            self.text += data

    def table(self, start):
        """The rows of the one table whose caption starts so, by their first cell."""
        (rows,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return {row[0]: row[1:] for row in rows}

    def named(self, tag):
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def fetched(self):
        """Every address that a browser would follow or fetch."""
        return [values[key] for _, values in self.tags for key in ("src", "href", "srcset", "action") if key in values]
