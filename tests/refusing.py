"""What a browser that keeps to a page's content-security policy would refuse, told from the page's text alone."""

import base64
import hashlib
import re
from html.parser import HTMLParser

# Elements that fetch something, by the directive that must admit it, and the attribute that says what.
FETCH = {
    "img": ("img-src", "src"), "script": ("script-src", "src"), "link": ("style-src", "href"),
    "iframe": ("frame-src", "src"), "object": ("object-src", "data"), "embed": ("object-src", "src"),
    "video": ("media-src", "src"), "audio": ("media-src", "src"), "source": ("media-src", "src"),
    "form": ("form-action", "action"), "base": ("base-uri", "href"),
}  # fmt: skip
ALONE = ("form-action", "base-uri")  # which default-src says nothing of


class Browser(HTMLParser):
    """Reads a page and keeps what its policy does not admit, a line each, in ``refused``."""

    def __init__(self, page: str):
        super().__init__()
        self.policy, self.refused, self.shape, self.inside, self.text = None, [], [], "", ""
        self.feed(page)
        self.close()
        if self.policy is None:
            self.refused.append("there is no policy")

    def sources(self, directive: str) -> list[str]:
        given = self.policy or {}
        return given.get(directive, ["*"] if directive in ALONE else given.get("default-src", ["*"]))

    def inline(self, directive: str, text: str, more: str = "") -> None:
        found = f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        admitted = self.sources(directive)
        if "'unsafe-inline'" in admitted:  # as on pages of voila
            return
        if self.policy is None or found not in admitted or (more and more not in admitted):
            self.refused.append(f"{directive} {text[:30]!r}")

    def address(self, directive: str, address: str) -> None:
        scheme = re.match(r"[a-z][a-z0-9+.-]*:", address, re.I)
        source = scheme.group().lower() if scheme else "elsewhere" if address.startswith("//") else "'self'"
        if self.policy is None or source not in self.sources(directive):
            self.refused.append(f"{directive} {address[:30]!r}")

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.shape.append((tag, *sorted(given)))
        if tag == "meta" and given.get("http-equiv", "").lower() == "content-security-policy":
            parts = [part.split() for part in given["content"].split(";")]
            self.policy = self.policy or {name: sources for name, *sources in parts}
        if "'unsafe-inline'" not in self.sources("script-src"):
            self.refused += [f"attribute {name}" for name in given if name.startswith("on")]
        self.refused += [f"address {v[:30]!r}" for v in given.values() if re.match(r"\s*javascript:", v, re.I)]
        if "style" in given:
            self.inline("style-src", given["style"], "'unsafe-hashes'")
        directive, name = FETCH.get(tag, ("", ""))
        by_hand = given.get("method") == "dialog" or (tag == "link" and "stylesheet" not in given.get("rel", ""))
        if name in given and not by_hand:
            self.address(directive, given[name])
        data = "json" in given.get("type", "")
        self.inside = tag if tag == "style" or (tag == "script" and "src" not in given and not data) else ""

    def handle_data(self, data):
        self.text += data if self.inside else ""

    def handle_endtag(self, tag):
        if self.inside:
            self.inline(f"{self.inside}-src", self.text)
        self.inside = self.text = ""


def refused(page: str) -> list[str]:
    """What the page's policy refuses of the page; a word where it has none."""
    return Browser(page).refused


def shape(page: str) -> list[tuple[str, ...]]:
    """The page's elements with the names of their attributes, in order: what no text may change."""
    return Browser(page).shape
