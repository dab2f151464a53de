"""The content-security policy of a page: it loads nothing from anywhere else, and runs only what kdlab wrote into it.

A policy stands in the page itself, so that it holds wherever the page lies: on a disk, behind any server. Styles and
scripts that stand in the page are admitted one by one, by the hash of their text; attributes that would run a script
(``onclick`` and its like) and addresses that would (``javascript:``) are admitted nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable
from html.parser import HTMLParser

# Browsers differ on whether 'self' holds the neighbours of a file; a page that is served can load no file: address.
BESIDE = ("'self'", "file:")
CHARSET = re.compile(r'<meta charset="utf-8"\s*/?>')


class Inline(HTMLParser):
    """The styles and scripts that stand in a page.

    Attributes:
        styles: texts of style elements.
        looks: values of style attributes.
        scripts: texts of script elements that load no file and are no data.
    """

    def __init__(self, page: str):
        super().__init__()
        self.styles: list[str] = []
        self.looks: list[str] = []
        self.scripts: list[str] = []
        self._into: list[str] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.looks += [given["style"]] if given.get("style") else []
        runs = tag == "script" and "src" not in given and "json" not in (given.get("type") or "")
        self._into = self.styles if tag == "style" else self.scripts if runs else None
        if self._into is not None:
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


def guarded(page: str, scripts: Iterable[str] = (), beside: Collection[str] = ()) -> str:
    """A page with its policy right behind its character set.

    Args:
        page: with ``<meta charset="utf-8">`` in its head; one that has a policy stays as it is.
        scripts: texts of the script elements that may run.
        beside: what may come from files beside the page, and not from it alone, as directives (``"img-src"``).
    """
    if 'http-equiv="Content-Security-Policy"' in page:
        return page
    return CHARSET.sub(lambda found: f"{found.group()}\n{_meta(Inline(page), scripts, beside)}", page, count=1)


def _meta(found: Inline, scripts: Iterable[str], beside: Collection[str]) -> str:
    rules = {
        "base-uri": [],
        "font-src": [],
        "form-action": [],
        "img-src": ["data:"],
        "script-src": [digest(text) for text in scripts],
        # The name is the standard's: with it, hashes hold for style attributes too.
        "style-src": [digest(text) for text in found.styles + found.looks] + ["'unsafe-hashes'"] * bool(found.looks),
    }
    words = ["default-src 'none'"]
    for name, sources in rules.items():
        admitted = dict.fromkeys([*(BESIDE if name in beside else ()), *sources])
        words.append(" ".join([name, *(admitted or ["'none'"])]))
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(words)}">'


def digest(text: str) -> str:
    """A text as a policy names it: ``'sha256-...'``."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
