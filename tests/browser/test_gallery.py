"""The gallery in a browser: filter, enlargement, links, schemes and widths. Made anew from the published figures."""

import json
import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from kdlab.paths import CHECKOUT
from kdlab.report import documents, notebook_page, pages, policy

PHONE, TABLET, DESKTOP = (390, 844), (820, 1180), (1400, 900)
FITS = "document.scrollingElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A published set as this checkout's templates make it, with two lessons."""
    folder = tmp_path_factory.mktemp("gallery") / "figures"
    shutil.copytree(CHECKOUT / "figures", folder)
    style = (notebook_page.TEMPLATES / "style.css").read_text()
    for page in folder.glob("notebooks/*.html"):
        text = re.sub("<style>.*?</style>", lambda _: f"<style>{style}</style>", page.read_text(), flags=re.S)
        page.write_text(policy.guarded(re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", text)))
    teaching = folder.parent / "teaching"
    teaching.mkdir()
    texts = {"01_start": "# Start\n\nHere it begins.", "02_end": "# End\n\nBack to [one](01_start.ipynb)."}
    for name, text in texts.items():
        nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), teaching / f"{name}.ipynb")
    pages.lessons(folder, teaching)
    pages.gallery(folder, folder, teaching)
    return folder


@pytest.fixture
def gallery(page, site):
    """The page, opened from disk as a reader would."""
    page.emulate_media(reduced_motion="reduce")
    page.goto((site / "index.html").as_uri())
    return page


@pytest.fixture(scope="module")
def studies(site):
    return documents.load_verdicts(site)


def shown(page) -> tuple[list[str], list[str]]:
    """Perspectives whose section is visible, and those whose row in the table is."""
    names = "all => all.filter(e => e.offsetHeight).map(e => e.id.replace('row-', ''))"
    return page.eval_on_selector_all("section[data-outcome]", names), page.eval_on_selector_all("tr[id]", names)


def said(page) -> str:
    return page.get_by_role("status").inner_text()


def pressed(page) -> list[str]:
    return page.eval_on_selector_all("#filter [aria-pressed=true]", "all => all.map(e => e.value || 'all')")


def test_everything_is_shown_at_first(gallery, studies):
    names, figures = [s["perspective"] for s in studies], sum(len(s["figures"]) for s in studies)
    assert shown(gallery) == (names, names) and pressed(gallery) == ["all"]
    assert said(gallery) == f"{figures} figures of {len(names)} perspectives shown"


def test_filter_by_click(gallery, studies):
    study = studies[-1]
    gallery.get_by_role("button", name=study["title"], exact=True).click()
    assert shown(gallery) == ([study["perspective"]],) * 2 and pressed(gallery) == [study["perspective"]]
    assert said(gallery) == f"{len(study['figures'])} figures of 1 perspective shown"
    assert gallery.url.endswith(f"#show={study['perspective']}"), "what is shown can be shared as a link"
    gallery.reload()
    assert shown(gallery)[0] == [study["perspective"]]
    gallery.get_by_role("button", name=study["title"], exact=True).click()
    assert len(shown(gallery)[0]) == len(studies), "pressed again, it lets go"
    gallery.go_back()
    assert shown(gallery)[0] == [study["perspective"]], "the browser's own way back works"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_filter_by_verdict(gallery, studies, size):
    gallery.set_viewport_size({"width": size[0], "height": size[1]})
    outcome = studies[0]["overall"]
    expected = [study["perspective"] for study in studies if study["overall"] == outcome]
    gallery.locator(f"button[value={outcome}]").click()
    assert shown(gallery) == (expected, expected)
    if others := [study["perspective"] for study in studies if study["overall"] != outcome]:
        gallery.locator(f"button[value={others[0]}]").click()
        assert shown(gallery) == ([], []) and said(gallery) == "0 figures of 0 perspectives shown"
    else:
        assert gallery.locator("button[name=outcome]:disabled").count() == 3, "nothing to ask for"
    gallery.get_by_role("button", name="All", exact=True).click()
    assert len(shown(gallery)[0]) == len(studies) and pressed(gallery) == ["all"]


def test_filter_by_keyboard(gallery, studies):
    gallery.get_by_role("button", name="All", exact=True).focus()
    gallery.keyboard.press("Tab")
    gallery.keyboard.press("Space")
    assert pressed(gallery) == [studies[0]["perspective"]]
    gallery.keyboard.press("Tab")
    gallery.keyboard.press("Enter")
    assert pressed(gallery) == [studies[1]["perspective"]] and shown(gallery)[1] == pressed(gallery)


def test_filter_by_words(gallery, studies):
    title = studies[1]["title"]
    gallery.get_by_role("searchbox").fill(title.upper())
    assert shown(gallery)[0] == [studies[1]["perspective"]]
    gallery.get_by_role("searchbox").fill("before the runs")
    figures = gallery.locator("section[data-outcome] figure")  # the overview above them stays
    visible = gallery.locator("section[data-outcome] figure:visible").count()
    assert visible == figures.filter(has_text="before the runs").count() > 1
    gallery.get_by_role("searchbox").fill("no such words")
    assert said(gallery) == "0 figures of 0 perspectives shown"
    gallery.get_by_role("searchbox").fill("")
    assert pressed(gallery) == ["all"] and len(shown(gallery)[0]) == len(studies)


def test_filter_by_address(page, site, studies):
    study = studies[1]
    page.goto((site / "index.html").as_uri() + f"#show={study['perspective']}&outcome={study['overall']}")
    assert shown(page) == ([study["perspective"]],) * 2
    assert pressed(page) == [study["perspective"], study["overall"]]
    page.evaluate("location.hash = 'show=renamed_since'")
    page.wait_for_function("!document.querySelector('section[hidden]')")
    assert pressed(page) == ["all"], "a link that is older than the page must not show nothing"


def test_anchors_lead_to_their_place(page, site, studies):
    first, last = studies[0]["perspective"], studies[-1]["perspective"]
    page.emulate_media(reduced_motion="reduce")
    page.goto((site / "index.html").as_uri() + f"#{last}")
    top = f"Math.abs(document.getElementById('{last}').getBoundingClientRect().top) < 60"
    page.wait_for_function(top)
    page.locator(f"button[value={first}]").click()
    page.evaluate(f"location.hash = '{last}'")
    page.wait_for_function(top)
    assert len(shown(page)[0]) == len(studies), "a filter does not hide what a link leads to"


def test_without_a_script_everything_is_there(browser, site, studies):
    page = browser.new_page(java_script_enabled=False)
    page.goto((site / "index.html").as_uri())
    assert page.locator("section[data-outcome]:visible").count() == len(studies)
    assert not page.locator("#filter").is_visible() and not page.locator("dialog").is_visible()
    page.emulate_media(media="print")
    assert page.locator("details p").first.is_visible()
    page.context.close()


def test_every_link_leads_somewhere(page, site):
    """In the gallery and in the lessons; what executed notebooks link to besides is their own affair."""
    for start in ("index.html", "notebooks/teaching/01_start.html", "notebooks/teaching/02_end.html"):
        page.goto((site / start).as_uri())
        links = page.eval_on_selector_all("[href], [src]", "all => all.map(e => e.href || e.src)")
        assert len(links) >= 3
        for link in links:
            place, _, anchor = link.removeprefix(site.as_uri() + "/").partition("#")
            assert (site / place).is_file(), link
            assert not anchor or f'id="{anchor}"' in (site / place).read_text(), link


def test_a_lesson_is_reached_and_leads_back(gallery):
    gallery.get_by_role("link", name="Start with the lessons").click()
    gallery.get_by_role("link", name="End", exact=True).click()
    gallery.get_by_role("link", name="← Start").click()
    assert gallery.locator("h1").inner_text().startswith("Start")
    gallery.get_by_role("link", name="All verdicts and figures").click()
    assert gallery.url.endswith("index.html#learn")


def test_a_figure_is_enlarged_and_put_back(gallery, screenshots):
    link = gallery.locator("figure > a").first
    dialog, small = gallery.locator("dialog"), link.locator("img")
    alt, width = small.get_attribute("alt"), small.bounding_box()["width"]
    link.focus()
    gallery.keyboard.press("Enter")
    large = dialog.locator("img")
    assert large.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert dialog.is_visible() and large.get_attribute("alt") == alt
    assert large.bounding_box()["width"] > width
    assert dialog.get_by_role("link").get_attribute("href").endswith(".svg")
    assert gallery.evaluate("document.activeElement.closest('dialog') !== null"), "the focus is inside"
    gallery.screenshot(path=screenshots / "gallery-enlarged.png")
    back = "document.activeElement === document.querySelector('figure > a')"
    gallery.keyboard.press("Escape")
    assert not dialog.is_visible() and gallery.evaluate(back), "the focus returns"
    link.click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible() and gallery.evaluate(back)
    link.click()
    gallery.mouse.click(2, 2)
    assert not dialog.is_visible(), "a click beside it closes it"


@pytest.mark.parametrize("size", [PHONE, TABLET, DESKTOP], ids=["phone", "tablet", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen(gallery, screenshots, size, scheme):
    gallery.set_viewport_size({"width": size[0], "height": size[1]})
    gallery.emulate_media(color_scheme=scheme)
    red, green, blue = gallery.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red + green + blue < 200) == (scheme == "dark")
    assert gallery.evaluate(FITS)
    for details in gallery.locator("details").all():
        details.locator("summary").click()
    assert gallery.evaluate(FITS), "with everything unfolded"
    gallery.screenshot(path=screenshots / f"gallery-{scheme}-{size[0]}.png")
    figure = gallery.locator("figure").first
    figure.scroll_into_view_if_needed()
    gallery.screenshot(path=screenshots / f"gallery-{scheme}-{size[0]}-figure.png")
    figure.locator("a").first.click()
    box = gallery.locator("dialog").bounding_box()
    assert 0 <= box["x"] and box["x"] + box["width"] <= size[0] and box["y"] + box["height"] <= size[1]


def test_executed_notebooks_and_lessons_fit_a_phone(page, site):
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    for path in sorted((site / "notebooks").rglob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate(FITS), path.stem


def test_print_shows_every_caption_whole(gallery):
    made = gallery.locator("details p").first
    assert not made.is_visible()
    gallery.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert gallery.locator("details:not([open])").count() == 0
    gallery.emulate_media(media="print")
    assert made.is_visible() and not gallery.locator("#filter").is_visible()
    gallery.emulate_media(media="screen")
    gallery.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not made.is_visible(), "what was folded is folded again"


@pytest.fixture
def two_sets(page, site, tmp_path):
    """The published set, and two of its perspectives again as those of another data set."""
    folder = shutil.copytree(site, tmp_path / "figures")
    (folder / "cifar10").mkdir()
    for study in documents.load_verdicts(site)[:2]:
        for path in folder.glob(f"{study['perspective']}[-.]*"):
            shutil.copy(path, folder / "cifar10")
        named = folder / "cifar10" / f"{study['perspective']}.verdict.json"
        named.write_text(json.dumps(json.loads(named.read_text()) | {"data": "cifar10", "data_title": "CIFAR-10"}))
    pages.gallery(folder, folder)
    page.goto((folder / "index.html").as_uri())
    return page


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_filter_by_data_set(two_sets, studies, size):
    two_sets.set_viewport_size({"width": size[0], "height": size[1]})
    names = [study["perspective"] for study in studies]
    own = [f"cifar10-{name}" for name in names[:2]]
    everything = [names[0], own[0], names[1], own[1], *names[2:]]
    assert shown(two_sets) == (everything, names) and two_sets.evaluate(FITS)
    two_sets.locator("button[value=cifar10]").click()
    assert shown(two_sets) == (own, names[:2]) and two_sets.url.endswith("#set=cifar10")
    cells = "all => all.filter(e => e.offsetHeight).map(e => e.dataset.set)"
    assert set(two_sets.eval_on_selector_all("#summary td[data-set]", cells)) == {"cifar10"}
    two_sets.locator(f"button[value={names[1]}]").click()
    assert shown(two_sets) == (own[1:], names[1:2])
    two_sets.evaluate(f"location.hash = '{names[3]}'")
    two_sets.wait_for_function("!document.querySelector('section[hidden]')")
    assert pressed(two_sets) == ["all"], "a filter does not hide what a link leads to"
