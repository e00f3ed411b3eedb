"""Errors of the REST interface as RFC 9457 problem details, and who calls it (HTTP Basic)."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from sqlalchemy.orm import Session

from operational.identity.service import SignInError, check_password
from operational.pages import installation_of
from operational.permissions import Principal

MEDIA_TYPE = "application/problem+json"
PREFIXES = ("/tmf-api/", "/api/")


class ProblemError(Exception):
    """An error answer of the interface: HTTP status and what to do about it."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def is_interface(request: Request) -> bool:
    """Whether a request is for the REST interface (not for a page)."""
    return request.url.path.startswith(PREFIXES)


def problem(request: Request, status: int, detail: str, **more: Any) -> JSONResponse:
    """An RFC 9457 answer."""
    return JSONResponse(
        {
            "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status,
            "detail": detail, "instance": request.url.path,
        } | more,
        status_code=status, media_type=MEDIA_TYPE,
    )  # fmt: skip


def answer(request: Request, error: Exception) -> Response:
    """Answer a ProblemError."""
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class only
    response = problem(request, error.status, error.detail)
    response.headers.update(error.headers)
    return response


def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose fields are wrong, naming each; the values sent are not repeated."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    fields = [
        {"field": ".".join(map(str, item["loc"])), "message": item["msg"]}
        for item in error.errors()
    ]
    return problem(request, 422, "the request is not valid; see errors", errors=fields)


_basic = HTTPBasic(auto_error=False, description="The same users as on the web pages.")


def _caller(
    request: Request, credentials: Annotated[HTTPBasicCredentials | None, Depends(_basic)]
) -> Principal:
    refused = ProblemError(
        401, "sign in with HTTP Basic: user name and password", WWW_Authenticate="Basic"
    )
    if credentials is None:
        raise refused
    try:
        return check_password(
            installation_of(request).settings,
            username=credentials.username, password=credentials.password,
        )  # fmt: skip
    except SignInError as error:
        raise refused from error


def _reading(request: Request) -> Iterator[Session]:
    with installation_of(request).sessions()() as session:
        yield session


CallerOf = Annotated[Principal, Depends(_caller)]
ReadingOf = Annotated[Session, Depends(_reading)]
