"""The services as a person sees them: signing in and photographing pages in a real browser.

Used by the browser tests and for the pictures in the documentation. Needs the package `playwright`
and a Chromium on the machine; nothing else in the project does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CALM = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
LOAD_TIMEOUT_MS = 90_000
IS_LOADING = '[aria-label="Loading"], .loading, [data-test="loading-indicator"]'


def find_chromium() -> str | None:
    """Path of a Chromium on this machine, if there is one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def open_browser(*, width: int = 1600, height: int = 1000, locale: str = "zh-CN") -> Iterator[Page]:
    """An empty page of a fresh browser that sends nothing anywhere by itself."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only this module needs it

    with tempfile.TemporaryDirectory(prefix="chromium-") as folder, sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            folder,
            executable_path=find_chromium(),
            headless=True,
            viewport={"width": width, "height": height},
            locale=locale,
            timezone_id="Asia/Shanghai",
            args=list(CALM),
        )
        context.set_default_timeout(LOAD_TIMEOUT_MS)
        try:
            yield context.new_page()
        finally:
            context.close()


def photograph_dashboard(
    base_url: str,
    output: Path,
    *,
    slug: str = "operations-overview",
    username: str = "admin",
    password: str,
    chart_count: int,
) -> tuple[str, list[str]]:
    """Sign in to Superset, wait for every chart of a dashboard and save it as a picture.

    Returns:
        The page's text, and what went wrong while loading it (failed requests by address).
    """
    failures: list[str] = []

    def watch(response: Response) -> None:
        if response.status >= 400:
            failures.append(f"{response.status} {response.url}")

    with open_browser(height=2800) as page:
        # Every answer renews the session. What is asked for before the form is sent and answered
        # after it would bring back the session of nobody: nothing else may be under way.
        page.route("**/superset/log/**", lambda route: route.abort())
        page.goto(f"{base_url}/login/", wait_until="networkidle")
        page.fill("#username", username)
        page.fill("#password", password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        page.on("response", watch)
        page.goto(f"{base_url}/superset/dashboard/{slug}/", wait_until="domcontentloaded")
        page.wait_for_function(
            """([count, loading]) =>
                document.querySelectorAll('.chart-container').length >= count
                && document.querySelectorAll(loading).length === 0""",
            arg=[chart_count, IS_LOADING],
        )
        page.wait_for_timeout(2000)  # charts are drawn with an animation
        page.screenshot(path=output)
        return page.inner_text("body"), failures


def photograph_airflow(
    base_url: str,
    output: Path,
    *,
    path: str = "/dags",
    as_graph: bool = False,
    username: str = "admin",
    password: str,
    shows: str,
) -> str:
    """Sign in to Airflow, save the page at `path` once it shows a text; returns all its text.

    With `as_graph` a DAG's page shows its graph, and nothing beside it.
    """
    width, height = (1200, 600) if as_graph else (1500, 950)
    with open_browser(width=width, height=height, locale="en-US") as page:
        page.goto(f"{base_url}/auth/login", wait_until="domcontentloaded")
        page.fill('input[name="username"]', username)
        page.fill('input[name="password"]', password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        page.goto(f"{base_url}{path}", wait_until="domcontentloaded")
        page.get_by_text(shows).first.wait_for()
        if as_graph:
            page.click('button[aria-label^="Show Graph"]')
            page.click('button[aria-label="Collapse Details Panel"]')
        page.wait_for_timeout(2500)  # the graph is laid out after its data has come
        page.screenshot(path=output)
        return page.inner_text("body")


def photograph_web(
    base_url: str,
    pages: Mapping[str, Path],
    *,
    language: str = "zh",
    username: str = "admin",
    password: str,
) -> dict[str, tuple[str, set[str]]]:
    """Sign in to the web module and save the pages at the given paths as pictures.

    Returns:
        For each path its text, and the families of the fonts its text was really drawn with.
    """
    seen: dict[str, tuple[str, set[str]]] = {}
    with open_browser(width=1280, height=900) as page:
        page.goto(f"{base_url}/sign-in", wait_until="domcontentloaded")
        page.fill('input[name="username"]', username)
        page.fill('input[name="password"]', password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/sign-in" not in url)
        page.goto(f"{base_url}/language/{language}", wait_until="domcontentloaded")
        for path, output in pages.items():
            page.goto(f"{base_url}{path}", wait_until="networkidle")
            page.screenshot(path=output)
            seen[path] = (page.inner_text("body"), fonts_drawn(page))
    return seen


def photograph_file(source: Path, output: Path) -> tuple[str, set[str]]:
    """Save the top of an HTML file as a picture; returns its text and the fonts drawn with."""
    with open_browser(width=1280, height=1250) as page:
        page.goto(source.resolve().as_uri(), wait_until="load")
        page.screenshot(path=output)
        return page.inner_text("body"), fonts_drawn(page)


def fonts_drawn(page: Page) -> set[str]:
    """Families of the fonts the browser really used for the page's text.

    A glyph no font has is drawn as an empty box; a page with Chinese text is legible when a font
    with Chinese glyphs is among these.
    """
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    nodes = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": "body, body *"})
    families: set[str] = set()
    for node in nodes["nodeIds"]:
        fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        families |= {font["familyName"] for font in fonts}
    return families
