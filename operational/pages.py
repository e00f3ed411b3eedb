"""What every page handler needs: the reader, the form that was sent, and the answer in HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from markupsafe import Markup
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from operational.i18n import DEFAULT_LANGUAGE, LANGUAGES
from operational.identity.service import find_principal
from operational.permissions import Principal
from operational.problems import InvalidRequestError
from operational.security import (
    CSRF_FIELD,
    LANGUAGE_COOKIE,
    PAGE_FIELD,
    SESSION_COOKIE,
    SESSION_MAX_AGE_S,
    BrowserSession,
    NotSignedInError,
    SessionSigner,
)  # fmt: skip
from operational.templating import page_words
from tollhouse.settings import Settings

# The menu: path, message key, permission.
NAVIGATION = (
    ("/customers", "nav.customers", "customer.read"),
    ("/orders", "nav.orders", "order.read"),
    ("/accounts", "nav.accounts", "receivable.read"),
    ("/catalogue", "nav.catalogue", "catalogue.read"),
    ("/cycles", "nav.cycles", "cycle.read"),
    ("/agreements", "nav.agreements", "agreement.read"),
    ("/control", "nav.control", "rule.read"),
    ("/users", "nav.users", "user.read"),
    ("/audit", "nav.audit", "audit.read"),
)

# A form may have so many fields; a tariff of fifty prices has a thousand.
MOST_FIELDS = 10_000


@dataclass(frozen=True)
class Installation:
    """What the application was made with; kept in `app.state.installation`."""

    settings: Settings
    sessions: Callable[[], sessionmaker[Session]]
    signer: SessionSigner
    jinja: Environment


@dataclass(frozen=True)
class Page:
    """One request for a page: who reads it, and a database session for reading."""

    request: Request
    installation: Installation
    database: Session
    browser: BrowserSession
    reader: Principal | None

    @property
    def settings(self) -> Settings:
        """The installation's settings."""
        return self.installation.settings

    @property
    def principal(self) -> Principal:
        """The signed-in user; NotSignedInError sends others to the sign-in page."""
        if self.reader is None:
            raise NotSignedInError("sign in first")
        return self.reader

    def render(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """The template as an answer, in the reader's language."""
        return render(
            self.request, self.installation, template, status, browser=self.browser,
            reader=self.reader, **values,
        )  # fmt: skip


def language_of(request: Request, reader: Principal | None = None) -> str:
    """The language kept in the cookie, else the user's, else Chinese."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    return reader.language if reader else DEFAULT_LANGUAGE


def render(
    request: Request, installation: Installation, template: str, status: int = 200, *,
    browser: BrowserSession | None = None, reader: Principal | None = None, **values: Any,
) -> HTMLResponse:  # fmt: skip
    """Render a template; a browser without a session gets one, so that its forms have a token."""
    signer = installation.signer
    browser = browser or signer.load(request.cookies.get(SESSION_COOKIE)) or signer.new(None)
    language = language_of(request, reader)
    here = _page_address(request)
    content = installation.jinja.get_template(template).render(
        **page_words(language, installation.settings.timezone),
        reader=reader, csrf=lambda: _form_inputs(signer.csrf_token(browser), here),
        path=request.url.path, here=quote(here, safe=""),
        navigation=[item for item in NAVIGATION if reader and reader.may(item[2])],
        other_language="en" if language == "zh" else "zh",
        **values,
    )  # fmt: skip
    response = HTMLResponse(content, status_code=status)
    if signer.load(request.cookies.get(SESSION_COOKIE)) is None:
        keep_session(request, response, installation, browser)
    return response


def _page_address(request: Request) -> str:
    """Where this page can be read again: one that a form drew, where the form stands."""
    if form_page := form_page_of(request):
        return form_page
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def form_page_of(request: Request) -> str | None:
    """The page whose form was sent, if one was."""
    form_page = getattr(request.state, PAGE_FIELD, None)
    return local_path(form_page) if form_page else None


def _form_inputs(token: str, here: str) -> Markup:
    hidden = Markup('<input type="hidden" name="{}" value="{}">')
    return hidden.format(CSRF_FIELD, token) + hidden.format(PAGE_FIELD, here)


def keep_session(
    request: Request, response: Response, installation: Installation, browser: BrowserSession
) -> None:
    """Set the session cookie: not for scripts, not for other sites."""
    response.set_cookie(
        SESSION_COOKIE, installation.signer.dump(browser), max_age=SESSION_MAX_AGE_S,
        httponly=True, samesite="lax", secure=request.url.scheme == "https",
    )  # fmt: skip


def installation_of(request: Request) -> Installation:
    """The installation that serves this request."""
    installation: Installation = request.app.state.installation
    return installation


def _reader(browser: BrowserSession | None, database: Session) -> Principal | None:
    if browser is None or browser.username is None:
        return None
    return find_principal(database, browser.username, browser.epoch)


def reader_of(request: Request) -> Principal | None:
    """The signed-in user, for an answer that no page handler gave; none without the database."""
    if hasattr(request.state, "reader"):
        found: Principal | None = request.state.reader
        return found
    installation = installation_of(request)
    browser = installation.signer.load(request.cookies.get(SESSION_COOKIE))
    with suppress(SQLAlchemyError), installation.sessions()() as database:
        return _reader(browser, database)
    return None


def _page(request: Request) -> Iterator[Page]:
    installation = installation_of(request)
    browser = installation.signer.load(request.cookies.get(SESSION_COOKIE))
    with installation.sessions()() as database:
        reader = _reader(browser, database)
        request.state.reader = reader
        _refuse_nul([*request.path_params.items(), *request.query_params.multi_items()])
        yield Page(
            request, installation, database, browser or installation.signer.new(None), reader
        )


def _refuse_nul(sent: Iterable[tuple[str, Any]]) -> None:
    """Refuse the one character that the database cannot hold."""
    if wrong := sorted({name for name, value in sent if "\x00" in f"{name}{value}"}):
        raise InvalidRequestError("bad_parameters", names=wrong)


async def _form(request: Request) -> dict[str, str]:
    installation = installation_of(request)
    sent = await request.form(max_fields=MOST_FIELDS)
    fields = {name: value.strip() for name, value in sent.items() if isinstance(value, str)}
    installation.signer.check_csrf(
        installation.signer.load(request.cookies.get(SESSION_COOKIE)), fields.pop(CSRF_FIELD, "")
    )
    setattr(request.state, PAGE_FIELD, fields.pop(PAGE_FIELD, None))
    _refuse_nul(fields.items())
    return fields


PageOf = Annotated[Page, Depends(_page)]
# The fields of a posted form, checked against forgery. There is no other way to read a form.
FormOf = Annotated[dict[str, str], Depends(_form)]
# How many rows of a list come before the page of it that is asked for.
StartOf = Annotated[int, Query(le=1_000_000_000)]


def see_other(path: str) -> RedirectResponse:
    """Send the browser to another page after a change (so that reloading does not repeat it)."""
    return RedirectResponse(path, status_code=303)


def download(content: bytes, media_type: str, name: str) -> Response:
    """A file: pages to read open in the browser, the rest is saved under a name."""
    place = "inline" if media_type.startswith("text/html") else "attachment"
    disposition = f"{place}; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})


def local_path(path: str | None) -> str:
    """A path on this site, or the first page: never an address elsewhere."""
    if path and path.startswith("/") and not path.startswith(("//", "/\\")):
        return path
    return "/"
