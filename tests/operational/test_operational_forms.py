"""Forms in a real browser: what was typed outlasts a change of the language."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from operational.security import SESSION_COOKIE
from tollhouse.services.pages import find_chromium, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="there is no Chromium on this machine"
)
START_LIMIT_S = 30


@pytest.fixture(scope="module")
def address(application: Any) -> Iterator[str]:
    """Where the application answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            limit = time.monotonic() + START_LIMIT_S
            while not server.started and time.monotonic() < limit:
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def page(address: str, application: Any) -> Iterator[Page]:
    """A browser of the least width the pages are made for, signed in as the administrator."""
    signer = application.state.installation.signer
    with open_browser(width=1280, height=900) as page:
        session = {
            "name": SESSION_COOKIE,
            "value": signer.dump(signer.new("admin")),
            "url": address,
        }
        page.context.add_cookies([session])  # type: ignore[list-item]
        yield page


def open_in(page: Page, address: str, path: str, language: str) -> None:
    page.goto(f"{address}/language/{language}?after={path}", wait_until="networkidle")


def follow(page: Page, selector: str) -> None:
    """Click what leads to another page, or the same one drawn anew, and wait for it."""
    with page.expect_navigation(wait_until="networkidle"):
        page.click(selector)


def switch(page: Page) -> None:
    page.wait_for_load_state()  # what keeps the typed listens from then on
    follow(page, "a[data-language]")


def choose_province(page: Page, code: str) -> None:
    """Choose it, and wait for its free numbers."""
    # An attribute, since the page's policy lets no expression be tried again and again.
    page.evaluate(
        """() => {
            delete document.body.dataset.settled;
            const settled = () => { document.body.dataset.settled = "yes"; };
            document.body.addEventListener("htmx:after:settle", settled, { once: true });
        }"""
    )
    page.select_option("select[name=province_code]", code)
    page.wait_for_selector("body[data-settled]")


def test_a_form_is_filled_again_in_the_other_language(page: Page, address: str) -> None:
    form = "/catalogue/plan-4g-76/new-version"
    typed = {"monthly_fee_amount": "-3", "valid_from": "2042-03-01", "reason": "a try"}
    open_in(page, address, form, "en")
    for name, value in typed.items():
        page.fill(f"input[name={name}]", value)
    for is_refused in (False, True):  # as it was opened, and as a refusal draws it
        if is_refused:
            follow(page, "main form .primary")
            assert page.is_visible(".notice.bad")
        language = page.get_attribute("html", "lang")
        switch(page)
        assert page.get_attribute("html", "lang") != language
        assert page.url == f"{address}{form}"
        assert {name: page.input_value(f"input[name={name}]") for name in typed} == typed


def test_rows_that_were_added_outlast_a_change_of_the_language_and_are_where_one_looks(
    page: Page, address: str
) -> None:
    open_in(page, address, "/catalogue/new-offering", "en")
    follow(page, "button[value='add usage_prices']")
    assert page.url.endswith("/catalogue/new-offering#usage_prices.0")
    first = "usage_prices.0.tiers.0.price_amount"
    page.fill(f"input[name='{first}']", "0.15")
    follow(page, "button[value='add usage_prices.0.tiers']")
    assert page.is_visible("input[name='usage_prices.0.tiers.1.price_amount']")
    page.fill("input[name=name_zh]", "试")
    page.fill("input[name=reason]", "a try")
    page.press("input[name=name_zh]", "Enter")  # as the button that says preview
    page.wait_for_selector(".notice.bad")
    assert page.input_value("input[name=name_zh]") == "试"
    switch(page)
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.input_value(f"input[name='{first}']") == "0.15"
    assert page.input_value("input[name='usage_prices.0.tiers.1.price_amount']") == ""
    assert page.input_value("input[name=name_zh]") == "试"


def test_a_form_that_is_sent_elsewhere_is_found_again_where_it_stands(
    page: Page, address: str
) -> None:
    open_in(page, address, "/orders/new", "en")
    page.fill("input[name=customer_name]", "Sun Qi")
    page.fill("input[name=imsi]", "12")
    choose_province(page, "11")
    page.locator("label:has(input[name=msisdn])").nth(2).click()
    chosen = page.eval_on_selector("input[name=msisdn]:checked", "field => field.value")
    page.locator("label.plan").first.click()
    # The browser would not send it either.
    page.eval_on_selector("form:has([name=imsi])", "form => form.noValidate = true")
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.click("button[value=submit]")
    assert answered.value.status == 422
    assert page.url == f"{address}/orders"
    switch(page)
    assert page.url == f"{address}/orders/new"
    page.wait_for_selector("input[name=msisdn]:checked", state="attached")
    assert page.input_value("input[name=customer_name]") == "Sun Qi"
    assert page.input_value("select[name=province_code]") == "11"
    assert page.eval_on_selector("input[name=msisdn]:checked", "field => field.value") == chosen


def test_what_is_changed_after_a_change_of_the_language_stays_so(page: Page, address: str) -> None:
    open_in(page, address, "/orders/new", "en")
    page.fill("input[name=customer_name]", "Sun Qi")
    switch(page)
    assert page.input_value("input[name=customer_name]") == "Sun Qi"
    page.fill("input[name=customer_name]", "Sun Ba")
    choose_province(page, "44")
    assert page.input_value("input[name=customer_name]") == "Sun Ba"
    assert page.input_value("select[name=province_code]") == "44"


def test_nothing_typed_is_kept_for_another_page(page: Page, address: str) -> None:
    open_in(page, address, "/catalogue/plan-4g-76/new-version", "en")
    page.fill("input[name=reason]", "kept for this page only")
    switch(page)
    page.goto(f"{address}/catalogue/plan-4g-56/new-version")
    assert page.input_value("input[name=reason]") == ""
    page.goto(f"{address}/catalogue/plan-4g-76/new-version")
    assert page.input_value("input[name=reason]") == ""
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_menu_stands_in_one_line(page: Page, address: str, language: str) -> None:
    open_in(page, address, "/", language)
    tops = page.eval_on_selector_all(
        ".bar > *, .menu a", "parts => parts.map(part => part.getBoundingClientRect())"
    )
    assert len(tops) > 10
    middles = {round(part["top"] + part["height"] / 2) for part in tops}
    assert max(middles) - min(middles) <= 1
