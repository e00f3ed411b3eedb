"""The web application: pages for staff and the REST interface, over the same services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import text
from starlette.exceptions import HTTPException

from operational import database, problem_details
from operational.accounts import api as accounts_api
from operational.accounts import web as accounts_web
from operational.billing import api as billing_api
from operational.billing import web as billing_web
from operational.catalogue import api as catalogue_api
from operational.catalogue import web as catalogue_web
from operational.control import api as control_api
from operational.control import web as control_web
from operational.crm import api as crm_api
from operational.crm import web as crm_web
from operational.i18n import translator
from operational.identity import api as identity_api
from operational.identity import web as identity_web
from operational.identity.service import ensure_admin
from operational.pages import (
    Installation,
    form_page_of,
    installation_of,
    language_of,
    reader_of,
    render,
)
from operational.problems import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    Problem,
)  # fmt: skip
from operational.security import CsrfError, NotSignedInError, SessionSigner
from operational.settlement import api as settlement_api
from operational.settlement import web as settlement_web
from operational.templating import environment
from tollhouse.settings import Settings, get_settings

STATIC = Path(__file__).parent / "static"

_ROOMS = (
    identity_web, crm_web, billing_web, accounts_web, catalogue_web, settlement_web, control_web,
)  # fmt: skip
_INTERFACES = (
    crm_api, billing_api, accounts_api, catalogue_api, settlement_api, control_api,
    identity_api,
)  # fmt: skip

_HEADERS = {
    # Everything comes from this site; no script or style stands in a page.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}

# Error → (HTTP status, message key of the page).
_STATUS: dict[type[Exception], tuple[int, str]] = {
    NotFoundError: (404, "error.not_found"),
    ForbiddenError: (403, "error.forbidden"),
    CsrfError: (403, "error.csrf"),
    ConflictError: (409, "error.conflict"),
    InvalidRequestError: (422, "error.invalid"),
}


def create_app(settings: Settings) -> FastAPI:
    """The application of one installation; brings tables and first user up to date as it starts."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        database.upgrade(settings)
        ensure_admin(settings)
        yield

    # The ready-made documentation pages load scripts from elsewhere; /openapi.json has it all.
    app = FastAPI(
        title="Tollhouse", lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json",
    )  # fmt: skip
    app.state.installation = Installation(
        settings=settings,
        sessions=lambda: database.session_factory(settings),
        signer=SessionSigner(settings),
        jinja=environment(),
    )
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for interface in _INTERFACES:
        app.include_router(interface.router)
    for room in _ROOMS:
        app.include_router(room.router, include_in_schema=False)
    app.middleware("http")(_add_headers)
    for error in _STATUS:
        app.add_exception_handler(error, _answer_error)
    app.add_exception_handler(NotSignedInError, _send_to_sign_in)
    app.add_exception_handler(problem_details.ProblemError, problem_details.answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)

    @app.get("/healthz", include_in_schema=False)
    def health() -> PlainTextResponse:
        """Whether the application reaches its database."""
        with database.session_factory(settings)() as session:
            session.execute(text("select 1"))
        return PlainTextResponse("ok")

    return app


def create_app_from_environment() -> FastAPI:
    """The application of the environment's settings, for `uvicorn --factory`."""
    return create_app(get_settings())


async def _add_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if not request.url.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _answer_error(request: Request, error: Exception) -> Response:
    status, key = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    if problem_details.is_interface(request):
        return problem_details.problem(request, status, str(error))
    translate = translator(language_of(request, reader_of(request)))
    detail = error.page_text(translate) if isinstance(error, Problem) else ""
    return _error_page(request, status, key, detail)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    if problem_details.is_interface(request):
        answer: JSONResponse = problem_details.problem(request, error.status_code, error.detail)
        answer.headers.update(error.headers or {})
        return answer
    known = {404: "error.not_found", 405: "error.not_found"}
    return _error_page(
        request, error.status_code, known.get(error.status_code, "error.invalid"), ""
    )


def _answer_invalid(request: Request, error: Exception) -> Response:
    if problem_details.is_interface(request):
        return problem_details.answer_invalid(request, error)
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    names = sorted({str(item["loc"][-1]) for item in error.errors()})
    return _answer_error(request, InvalidRequestError("bad_parameters", names=names))


def _error_page(request: Request, status: int, key: str, detail: str) -> Response:
    return render(
        request, installation_of(request), "error.html", status,
        reader=reader_of(request), message_key=key, detail=detail, back=form_page_of(request),
    )  # fmt: skip


def _send_to_sign_in(request: Request, _error: Exception) -> Response:
    if request.headers.get("HX-Request"):
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    after = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?after={after}", status_code=303)
