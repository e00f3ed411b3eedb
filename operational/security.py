"""Sessions in a signed cookie, and the token that every form carries against forged posts."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeTimedSerializer

from tollhouse.settings import Settings

SESSION_COOKIE = "tollhouse_session"
LANGUAGE_COOKIE = "tollhouse_language"
SESSION_MAX_AGE_S = 12 * 3600
CSRF_FIELD = "csrf_token"
PAGE_FIELD = "page_of_form"  # where the page is that a form stands on


class CsrfError(PermissionError):
    """A form came without the token of its session; load the page again and send it once more."""


class NotSignedInError(PermissionError):
    """The page needs a signed-in user."""


@dataclass(frozen=True)
class BrowserSession:
    """Who a browser is signed in as (nobody: None), the session's random part, and its epoch.

    The epoch is the user's at sign-in; once the user has signed out, it is a past one.
    """

    username: str | None
    nonce: str
    epoch: int = 0


class SessionSigner:
    """Makes and reads session cookies; without the secret key nobody else can."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.secret_key.get_secret_value()
        self._serializer = URLSafeTimedSerializer(self._key, salt="tollhouse-session")

    def new(self, username: str | None, epoch: int = 0) -> BrowserSession:
        """A session with a random part of its own (a new one at every sign-in)."""
        return BrowserSession(username, secrets.token_urlsafe(18), epoch)

    def dump(self, session: BrowserSession) -> str:
        """The cookie's value."""
        return str(self._serializer.dumps([session.username, session.nonce, session.epoch]))

    def load(self, cookie: str | None) -> BrowserSession | None:
        """The session of a cookie; None if it is missing, forged or too old."""
        if not cookie:
            return None
        try:
            username, nonce, epoch = self._serializer.loads(cookie, max_age=SESSION_MAX_AGE_S)
        except (BadSignature, ValueError, TypeError):
            return None
        return BrowserSession(username, nonce, epoch)

    def csrf_token(self, session: BrowserSession) -> str:
        """The token that forms of this session carry."""
        return hmac.new(
            self._key.encode(), f"csrf:{session.nonce}".encode(), hashlib.sha256
        ).hexdigest()

    def check_csrf(self, session: BrowserSession | None, token: str) -> None:
        """Raise CsrfError unless the token is the session's."""
        if session is None or not hmac.compare_digest(
            self.csrf_token(session).encode(), token.encode()
        ):
            raise CsrfError("the form is too old or not from here: load the page again, then send")
