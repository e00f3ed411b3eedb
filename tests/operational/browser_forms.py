"""Forms of pages as a browser sends them: every field with what stands in it, in their order."""

from __future__ import annotations

from html.parser import HTMLParser


class _Reader(HTMLParser):
    def __init__(self, action: str) -> None:
        super().__init__()
        self.action = action
        self.found: dict[str, str] = {}
        self._is_inside = False
        self._select = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._is_inside = given.get("action") == self.action and given.get("method") == "post"
        elif not self._is_inside:
            return
        elif tag == "input" and "name" in given:
            if given.get("type") != "checkbox" or "checked" in given:
                self.found[given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and (self._select not in self.found or "selected" in given):
            self.found[self._select] = given["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


def sent_fields(page: str, action: str) -> dict[str, str]:
    """What a browser sends of the form of a page that goes to an address, without any button."""
    reader = _Reader(action)
    reader.feed(page)
    return reader.found
