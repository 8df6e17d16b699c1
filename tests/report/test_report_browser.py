"""Pins, in a real headless Chromium: the page logs no error and asks for nothing from outside; it is no wider than a phone, light or dark;
folded it is about ten screens high; headers sort by click and keyboard; a point of the UMAP shows its text to a pointer, a finger and the
arrow keys; a link to something folded opens it; without scripts everything is there."""

import os
import shutil

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'conan-lib[dev]'")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install one, or name it in CHROMIUM")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(browser, finished):
    """Open index.html; at the end no page may have logged an error or asked for something outside it."""
    said, index = [], (finished / "runs" / "tiny" / "index.html").as_uri()

    def open_page(**options):
        page = browser.new_context(**{"viewport": {"width": 1400, "height": 900}} | options).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith((index, "data:")) else None)
        page.goto(index)
        assert said == []
        return page

    yield open_page
    assert said == []


@pytest.fixture(scope="module")
def page(opened):
    """One page on a desktop with a touch screen, for the tests that leave it usable."""
    return opened(has_touch=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_wider_than_a_phone(opened, scheme):
    page = opened(viewport={"width": 360, "height": 780}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_first_screen_holds_every_verdict(page):
    page.evaluate("scrollTo(0, 0)")
    bottoms = page.eval_on_selector_all("table.ledger tbody tr", "rows => rows.map(row => row.getBoundingClientRect().bottom)")
    assert len(bottoms) == 14 and max(bottoms) <= 900


def test_folded_the_page_is_about_ten_screens_and_no_wider_than_the_screen(opened):
    page = opened(viewport={"width": 1280, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    assert page.evaluate("document.documentElement.scrollHeight") <= 10.5 * 800


def test_headers_sort_and_the_third_time_restore(page):
    table = page.locator("#table-speed table")
    table.evaluate("one => { for (let at = one; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true; }")
    place = [head.strip() for head in table.locator("th").all_inner_texts()].index("texts/s")
    cells = table.locator(f"tbody td:nth-child({place + 1})")
    rates = lambda: [float(cell.split()[0].replace(",", "")) for cell in cells.all_inner_texts()]  # noqa: E731
    first, head = rates(), table.locator("th").nth(place)
    assert first != sorted(first) and head.get_attribute("aria-sort") is None
    head.locator("button").click()
    assert rates() == sorted(first) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert rates() == sorted(first, reverse=True) and head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert rates() == first and head.get_attribute("aria-sort") is None


def test_a_point_says_its_text_and_rings_its_translations(page):
    umap = page.locator(".umap")
    point = umap.locator(".panel svg use").nth(3)
    text = point.locator("title").text_content()
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    assert umap.locator(".said").text_content() == text and text.startswith("de: ")
    assert umap.locator(".mark").count() == umap.locator(f'use[data-g="{point.get_attribute("data-g")}"]').count() == 4
    umap.locator(".panel svg").nth(1).press("ArrowRight")
    walked = umap.locator(".said").text_content()
    assert walked == umap.locator(".panel svg").nth(1).locator("use title").first.text_content()
    page.touchscreen.tap(*middle)
    assert umap.locator(".said").text_content() == text


def test_a_language_can_be_shown_alone(page):
    page.locator(".umap .legend button", has_text="en").click()
    assert page.locator(".umap g.dim").count() == 2 and page.locator(".umap g.dim").first.get_attribute("data-lang") == "de"


def test_a_link_opens_what_is_folded(page):
    assert not page.locator("#C12").evaluate("one => one.open")
    page.locator('table.ledger a[href="#C12"]').first.click()
    page.wait_for_selector("#C12[open]", state="attached")  # the page hears of the new address a moment after the click


def test_a_number_leads_to_its_row(page):
    row = page.locator(".tile a.number").nth(1)
    row.click()
    target = page.locator("tr:target")
    target.wait_for()  # what it is folded in opens a moment after the click
    box = target.bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900 and row.inner_text().split()[-1] in target.inner_text()


def test_without_scripts_everything_is_there(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("table.ledger tbody tr").count() == 14 and page.locator("th button").count() == 0
    assert page.locator(".umap use title").count() == page.locator(".umap .panel use").count() > 0
