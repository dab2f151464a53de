"""What a built site must hold: it loads nothing from another host, and its own links lead somewhere.

``guard`` gives each page the policy that holds a browser to the first of these.
"""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from kdlab.report import policy

# What a browser fetches by itself; a link that is followed by hand may lead anywhere.
FETCHED = re.compile(
    r'<(?:script|img|iframe|link|source|object|embed|video|audio|use)\b[^>]*?\s(?:src|href|data|srcset)="([^"]*)"'
)
IN_STYLES = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')\s]+)""")
FOLLOWED = re.compile(r'<a\b[^>]*?\shref="([^"#]+)')
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)

# What pages of the site fetch from beside them; its search is a form that leads to a page.
BESIDE = ("font-src", "form-action", "img-src", "script-src", "style-src")


def guard(site: Path) -> None:
    """Give every page that has none its content-security policy: what runs is what sphinx and the theme wrote.

    Args:
        site: folder of the built pages, and of the gallery below it, whose notebooks run nothing.
    """
    for page in site.rglob("*.html"):
        text, own = page.read_text(encoding="utf-8"), "gallery" not in page.relative_to(site).parts
        scripts = policy.Inline(text).scripts if own else ()
        page.write_text(policy.guarded(text, scripts, BESIDE if own else ()), encoding="utf-8")


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
