"""The page of a suite in a real browser: Chromium of the system, driven by Playwright. No test reaches any network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.pages import HOSTILE, make_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

WIDTHS = (360, 1280, 3840)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with texts that would break out of one that does not escape them."""
    return make_page(tmp_path_factory.mktemp("page")).as_uri()


class Tab:
    """A page that is open, and all that should not happen on it."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True, **options)
        self.wrong: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._asked)
        self.address = address
        self.page.goto(address)

    def _asked(self, request: Any) -> None:
        if request.url.partition("#")[0] != self.address and not request.url.startswith("data:"):
            self.wrong.append(f"request: {request.url}")

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    opened = Tab(browser, address)
    yield opened
    opened.close()


@pytest.fixture
def page(tab: Tab) -> Page:
    return tab.page


def models(page: Page, scale: str = "normalised") -> list[str]:
    """The models of a score table that can be seen, in their order."""
    rows = page.locator(f'.score-table[data-scale="{scale}"] tbody tr')
    return [row.get_attribute("data-model") or "" for row in rows.all() if row.is_visible()]


def head(page: Page, name: str) -> Any:
    return page.locator('.score-table[data-scale="normalised"] thead th').filter(has_text=name)


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


FIRST = ["pretrained", "sum", "mean", "masks", "twin", "twin-strict", "sum-strict", "experts"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    opened = Tab(browser, address, color_scheme=scheme)
    open_all(opened.page)
    opened.page.locator('[name="numbers"]').check()
    only = {} if scheme == "light" else {"runOnly": ["color-contrast"]}  # what else there is to find differs in nothing
    found = axe.Axe().run(opened.page, options={"resultTypes": ["violations"], **only}).response["violations"]
    serious = [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    opened.close()


def test_no_text_of_the_data_runs(page: Page) -> None:
    assert page.evaluate("window.broken") is None
    for task in page.locator('#picker [name="task"] option').all_inner_texts():
        page.select_option('#picker [name="task"]', task)
        for model in page.locator('#picker [name="model"] option').all_inner_texts():
            page.select_option('#picker [name="model"]', model)
    assert page.evaluate("window.broken") is None
    assert page.title().startswith("Two tasks </title>")
    assert page.locator("#cards script, #cards img, #cards b").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    name = page.locator('.score-table[data-scale="normalised"] tbody th').first
    region = page.locator('.score-table[data-scale="normalised"]')
    before = name.bounding_box()
    region.evaluate("(element) => { element.scrollLeft = 200; }")
    after = name.bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] == pytest.approx(before["x"], abs=1)  # the first column stays


def test_sorting_by_mouse_and_keyboard(page: Page) -> None:
    assert models(page) == FIRST
    average = head(page, "average")
    average.get_by_role("button").click()
    assert average.get_attribute("aria-sort") == "descending"
    assert models(page) == FIRST[::-1]
    average.get_by_role("button").press("Enter")
    assert average.get_attribute("aria-sort") == "ascending"
    assert models(page) == FIRST
    values = head(page, "values")
    values.get_by_role("button").press("Space")
    assert average.get_attribute("aria-sort") is None
    assert models(page)[-1] == "sum"  # which has no score there
    values.get_by_role("button").press("Space")
    assert models(page)[-1] == "sum"
    values.get_by_role("button").press("Space")
    assert values.get_attribute("aria-sort") is None
    assert models(page) == FIRST
    head(page, "model").get_by_role("button").click()
    assert models(page) == sorted(FIRST)


def test_filtering_by_mouse_and_keyboard(page: Page) -> None:
    controls = page.locator("#controls")
    controls.get_by_label("Kind").select_option("dynamic")
    assert models(page) == ["twin", "twin-strict"]
    assert page.locator("#shown").inner_text() == "2 of 8 models shown, normalised scores"
    controls.get_by_label("Protocol").select_option("strict")
    assert models(page) == ["twin-strict"]
    controls.get_by_label("Kind").select_option("all")
    text = controls.get_by_label("Model")
    text.press_sequentially("SUM")
    assert models(page) == ["sum-strict"]
    text.fill("no such model")
    assert page.locator('.score-table[data-scale="normalised"] .nothing').is_visible()
    text.fill("")
    controls.get_by_label("Protocol").select_option("all")
    controls.get_by_label("normalised").press("ArrowRight")
    assert controls.get_by_label("absolute").is_checked()
    assert models(page) == []
    assert models(page, "absolute") == FIRST
    assert not page.locator(".interval").first.is_visible()
    controls.get_by_label("intervals in numbers").press("Space")
    assert page.locator('.score-table[data-scale="absolute"] .interval').first.is_visible()


def test_picking_examples_by_mouse_and_keyboard(page: Page) -> None:
    picker, cards = page.locator("#picker"), page.locator("#cards article")
    assert cards.count() == 12
    picker.get_by_label("Model").select_option("sum")
    assert page.locator("#about").inner_text() == "sum on labels: 12 of 24 rows right."
    picker.get_by_label("both").press("ArrowRight")
    assert {card.locator(".mark").inner_text() for card in cards.all()} == {"right"}
    assert cards.count() == 6
    task = picker.get_by_label("Task")
    task.focus()
    task.press("v")  # as a select takes the first letter of an option
    assert task.input_value() == "values"
    assert picker.get_by_label("Model").input_value() == "sum"
    assert "the nearest and the farthest of 24 rows drawn" in page.locator("#about").inner_text()
    assert {card.locator(".mark").inner_text() for card in cards.all()} == {"near"}
    picker.get_by_label("Model").select_option("twin")
    assert page.locator("#cards .weights").count() == cards.count()


def test_a_long_text_is_cut_and_can_be_opened(page: Page) -> None:
    page.locator("#picker").get_by_label("Task").select_option("values")
    shown = page.locator("#cards dd").filter(has=page.locator("button")).first
    short = len(shown.inner_text())
    shown.get_by_role("button").press("Enter")
    assert shown.get_by_role("button").get_attribute("aria-expanded") == "true"
    assert len(shown.inner_text()) > 2 * short
    shown.get_by_role("button", name="Show less").click()
    assert len(shown.inner_text()) == short


def test_the_keyboard_reaches_the_content_first(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").is_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_colours_can_be_chosen(browser: Browser, address: str) -> None:
    opened = Tab(browser, address, color_scheme="light", reduced_motion="reduce")
    page, ground = opened.page, "getComputedStyle(document.body).backgroundColor"
    light, button = page.evaluate(ground), page.locator("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    button.click()  # light
    assert page.evaluate(ground) == light
    button.press("Enter")  # dark
    dark = page.evaluate(ground)
    assert dark != light
    assert button.get_attribute("aria-label") == "Colours: dark"
    page.reload()
    assert page.evaluate(ground) == dark
    button.click()
    assert page.evaluate(ground) == light
    opened.close()


def test_it_reads_without_javascript(browser: Browser, address: str) -> None:
    opened = Tab(browser, address, java_script_enabled=False)
    page = opened.page
    assert [table.is_visible() for table in page.locator(".score-table").all()] == [True, True]
    assert page.locator("figure img").is_visible()
    assert page.locator("#cards article").count() == 12
    assert not page.locator("#controls").is_visible()
    assert not page.locator("#picker").is_visible()
    opened.close()


def test_it_prints(page: Page) -> None:
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    page.emulate_media(media="print")
    assert not page.locator(".top").is_visible()
    assert not page.locator("#controls").is_visible()
    assert page.locator('.score-table[data-scale="normalised"]').is_visible()


def test_a_text_of_another_direction_turns_nothing_but_itself(page: Page) -> None:
    page.locator("#picker").get_by_label("Model").select_option("pretrained")
    turned = page.locator("#cards dd").filter(has_text=HOSTILE[4][1:5]).first
    assert turned.evaluate("(element) => getComputedStyle(element).unicodeBidi") == "isolate"
