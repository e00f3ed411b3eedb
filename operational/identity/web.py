"""Pages of identity: sign-in, language, users, audit log."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from operational.i18n import LANGUAGES
from operational.identity import service
from operational.pages import FormOf, PageOf, keep_session, local_path, see_other
from operational.security import LANGUAGE_COOKIE

router = APIRouter()

_YEAR_S = 365 * 24 * 3600


@router.get("/sign-in")
def sign_in_page(page: PageOf, after: str = "/") -> Response:
    """The sign-in form."""
    if page.reader is not None:
        return see_other(local_path(after))
    return page.render("identity/sign_in.html", after=local_path(after), username="", refused=False)


@router.post("/sign-in")
def sign_in(page: PageOf, form: FormOf) -> Response:
    """Check the password; the session is a new one, so that an old cookie is worth nothing."""
    username, after = form.get("username", ""), local_path(form.get("after"))
    try:
        user = service.sign_in(page.settings, username=username, password=form.get("password", ""))
    except service.SignInError:
        return page.render(
            "identity/sign_in.html", 401, after=after, username=username, refused=True
        )
    response = see_other(after)
    keep_session(
        page.request, response, page.installation,
        page.installation.signer.new(user.principal.username, user.session_epoch),
    )  # fmt: skip
    return response


@router.post("/sign-out")
def sign_out(page: PageOf, _form: FormOf) -> Response:
    """End the session, and every other one of the user."""
    if page.reader is not None:
        service.sign_out(page.settings, principal=page.reader)
    response = see_other("/sign-in")
    keep_session(page.request, response, page.installation, page.installation.signer.new(None))
    return response


@router.get("/language/{language}")
def choose_language(request: Request, language: str, after: str = "/") -> RedirectResponse:
    """Keep the language in a cookie and go back."""
    response = see_other(local_path(after))
    if language in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, language, max_age=_YEAR_S, httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip
    return response


@router.get("/users")
def users_page(page: PageOf) -> Response:
    """The users of the reader's province."""
    users = service.list_users(page.database, principal=page.principal)
    return page.render("identity/users.html", users=users)


@router.get("/audit")
def audit_page(page: PageOf) -> Response:
    """The newest audit rows."""
    rows = service.recent_audit(page.database, principal=page.principal)
    return page.render("identity/audit.html", rows=rows)
