"""What a built site must hold: it loads nothing from another host, and its own links lead somewhere."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

# What a browser fetches by itself; a link that is followed by hand may lead anywhere.
FETCHED = re.compile(
    r'<(?:script|img|iframe|link|source|object|embed|video|audio|use)\b[^>]*?\s(?:src|href|data|srcset)="([^"]*)"'
)
IN_STYLES = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')\s]+)""")
FOLLOWED = re.compile(r'<a\b[^>]*?\shref="([^"#]+)')
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def faults(site: Path) -> list[str]:
    """What is wrong with a site, a line each; empty when it reads whole without a network.

    Args:
        site: folder of the built pages.
    """
    found = []
    for page in sorted(site.rglob("*.html")):
        text, place = page.read_text(encoding="utf-8"), page.relative_to(site)
        fetched = [unescape(address) for address in FETCHED.findall(text)] + IN_STYLES.findall(text)
        found += [f"{place} loads {address}" for address in fetched if ELSEWHERE.match(address)]
        local = {unescape(address) for address in [*fetched, *FOLLOWED.findall(text)] if not SCHEME.match(address)}
        for address in sorted(local):
            path = unquote(address.partition("?")[0].partition("#")[0])
            if path and not ELSEWHERE.match(address) and not (page.parent / path).exists():
                found.append(f"{place} points at {address}, which is not there")
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        found += [f"{style.relative_to(site)} loads {a}" for a in IN_STYLES.findall(text) if ELSEWHERE.match(a)]
    return found
