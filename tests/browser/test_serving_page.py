"""The page of the server in a real browser, against a server on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import Process, saved, saved_classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

KEY = "<b>secret</b>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = saved(tmp_path_factory.mktemp("served") / "tiny", positions=400)
    options = ("--served-model-name", "<i>tiny</i>")
    with Process(folder, *options, environment={"TWIN_MERGING_API_KEY": KEY}) as found:
        yield found


@pytest.fixture
def page(browser: Browser, server: Process) -> Iterator[Page]:
    """The page with the server's key given; it asks nobody but its server, and nothing goes wrong on it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    wrong: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda told: wrong.append(f"console: {told.text}") if "status of 4" not in told.text else None)
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(server.root) else None)
    page.goto(f"{server.root}/")
    page.get_by_label("Key of this server").fill(KEY)
    page.get_by_label("Key of this server").press("Tab")
    expect(page.locator("#model option")).to_have_count(5)
    yield page
    context.close()
    assert [one for one in wrong if not one.startswith("data:")] == []


def expect(locator: Any) -> Any:
    """What a part of the page comes to show. (Functions that wait in the page need `eval`, which the page forbids.)"""
    from playwright.sync_api import expect

    return expect(locator)


def ask(page: Page, prompt: str, model: str, tokens: int) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Answered by").select_option(label=model)
    page.get_by_label("Tokens at most").fill(str(tokens))
    page.get_by_role("button", name="Ask").click()


def weights(page: Page) -> dict[str, str]:
    rows: Any = page.locator("#weights .name")
    return {row.locator("span").nth(0).inner_text(): row.locator("span").nth(1).inner_text() for row in rows.all()}


def test_an_answer_streams_with_its_weights_and_its_pace(page: Page) -> None:
    assert page.locator("h1").inner_text() == "<i>tiny</i>"
    ask(page, "w1 w2", "the mixture that the router finds", 5)
    expect(page.locator("#rate")).not_to_have_text("–")
    expect(page.locator("#ask")).to_be_enabled()
    assert len(page.locator("#answer").inner_text().split()) <= 5
    routed = weights(page)
    assert routed.keys() == {"a", "b", "c"}
    assert sum(map(float, routed.values())) == pytest.approx(1, abs=0.002)
    assert 1 <= int(page.locator("#count").inner_text()) <= 5
    ask(page, "w1 w2", "the expert for b", 5)
    expect(page.locator(".chosen")).to_have_text("b1.000")
    assert weights(page) == {"a": "0.000", "b": "1.000", "c": "0.000"}
    assert [bar.get_attribute("style") for bar in page.locator(".bar").all()] == [
        f"width: {share}%;" for share in (0, 100, 0)
    ]


def test_an_answer_can_be_stopped_and_an_error_is_told(page: Page) -> None:
    ask(page, "w1 w2", "the shared model alone", 500)
    expect(page.locator("#answer")).to_contain_text("max_tokens: 500 tokens")
    page.route("**/v1/**completions", lambda route: None)  # the answer does not come
    ask(page, "w1 w2", "the shared model alone", 3)
    page.get_by_role("button", name="Stop").click(timeout=5000)
    expect(page.locator("#ask")).to_be_enabled()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_telephone(page: Page, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.emulate_media(color_scheme=scheme)
    ask(page, "w1 w2", "the expert for b", 3)
    expect(page.locator(".chosen")).to_have_count(1)
    assert axe.Axe().run(page).response["violations"] == []
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_of_a_classifier_shows_its_labels(browser: Browser, tmp_path: Path) -> None:
    with Process(saved_classifier(tmp_path / "tiny", "bert")) as server:
        page = browser.new_page(viewport={"width": 360, "height": 800})
        page.goto(f"{server.root}/")
        expect(page.locator("#model option")).to_have_count(5)
        expect(page.get_by_label("Tokens at most")).to_be_hidden()
        page.get_by_label("Text", exact=True).fill("w1 w2")
        page.get_by_label("Second text of a pair").fill("w3")
        page.get_by_label("Answered by").select_option(label="the expert for b")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#labels li")).to_have_count(3)
        expect(page.locator("#answer")).to_have_text(page.locator("#labels .chosen span").nth(0).inner_text())
        assert weights(page) == {"a": "0.000", "b": "1.000", "c": "0.000"}
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.get_by_label("Answered by").select_option(label="the expert for c")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#labels")).to_be_hidden()
        expect(page.locator("#answer")).to_have_text(re.compile(r"-?\d+\.\d{3}"))
        page.close()
