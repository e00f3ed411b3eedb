"""Users: who may sign in, with which role, in which province."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from operational import audit
from operational.database import transaction
from operational.identity.models import AppUser, AuditLog
from operational.permissions import Principal
from tollhouse.settings import Profile, Settings

_hasher = PasswordHasher()
# Verified when there is no such user, so that the answer takes as long as for a wrong password.
_NOBODY = _hasher.hash("nobody signs in with this")


# So many wrong passwords of one user in this time, and the user is barred until it has passed.
_REFUSALS_ALLOWED = 10
_REFUSAL_WINDOW = timedelta(minutes=15)


class SignInError(ValueError):
    """User name and password do not belong together, or the user is not active."""


@dataclass(frozen=True)
class _FirstUser:
    username: str
    display_name: str
    role: str
    province_code: str
    language: str = "zh"


_ADMIN = _FirstUser("admin", "系统管理员", "admin", "00")
_DEMO_USERS = (
    _FirstUser("agent44", "广东营业员", "agent", "44"),
    _FirstUser("finance", "总部财务", "finance", "00"),
    _FirstUser("operator", "采集值班", "operator", "00"),
    _FirstUser("analyst", "经营分析", "analyst", "00", "en"),
)


def ensure_admin(settings: Settings) -> list[str]:
    """Create the first user ``admin`` (password: settings.admin_password) if there is none.

    In the embedded profile also one demo user for each other role, with the same password.
    Users that are there keep their password. Returns the names created.
    """
    wanted = [_ADMIN, *(_DEMO_USERS if settings.profile is Profile.embedded else ())]
    created = []
    with transaction(settings) as session:
        known = set(session.scalars(select(AppUser.username)))
        for user in wanted:
            if user.username in known:
                continue
            inserted = session.execute(
                insert(AppUser)
                .values(
                    username=user.username, display_name=user.display_name, role=user.role,
                    province_code=user.province_code, language=user.language,
                    password_hash=_hasher.hash(settings.admin_password.get_secret_value()),
                )
                .on_conflict_do_nothing(index_elements=["username"])
                .returning(AppUser.username)
            ).first()  # fmt: skip
            if inserted is not None:
                created.append(user.username)
                audit.record(
                    session, username="loader", action="create_user", entity_type="app_user",
                    entity_id=user.username, province_code=user.province_code,
                    detail={"role": user.role},
                )  # fmt: skip
    return created


@dataclass(frozen=True)
class SignedIn:
    """A user whose password was right, and the epoch that a session begun now belongs to."""

    principal: Principal
    session_epoch: int


def sign_in(settings: Settings, *, username: str, password: str) -> SignedIn:
    """Check a password and note the sign-in in the audit log; raises SignInError."""
    user = _checked_user(settings, username, password)
    with transaction(settings) as session:
        _audit_user(session, user.username, "sign_in", user.province_code)
    return SignedIn(_principal(user), user.session_epoch)


def sign_out(settings: Settings, *, principal: Principal) -> None:
    """End all sessions of the user: a cookie signed before is worth nothing from now on."""
    with transaction(settings) as session:
        session.execute(
            update(AppUser)
            .where(AppUser.username == principal.username)
            .values(session_epoch=AppUser.session_epoch + 1)
        )
        _audit_user(session, principal.username, "sign_out", principal.province_code)


def check_password(settings: Settings, *, username: str, password: str) -> Principal:
    """The user a password belongs to; a refusal is noted in the audit log.

    Raises SignInError, also for a right password after too many wrong ones.
    """
    return _principal(_checked_user(settings, username, password))


def _checked_user(settings: Settings, username: str, password: str) -> AppUser:
    with transaction(settings) as session:
        user = session.scalar(select(AppUser).where(AppUser.username == username))
        is_right = False
        with contextlib.suppress(Argon2Error, InvalidHashError):
            _hasher.verify(user.password_hash if user else _NOBODY, password)
            is_right = user is not None and user.is_active
        if user is not None:
            if _recent_refusals(session, username) >= _REFUSALS_ALLOWED:
                # Not counted as a refusal: the bar ends however often somebody tries meanwhile.
                is_right = False
                _audit_user(session, username, "sign_in_barred", user.province_code)
            elif not is_right:
                _audit_user(session, username, "sign_in_refused", user.province_code)
    if user is None or not is_right:
        raise SignInError("user name or password is wrong, or the user is barred")
    return user


def _recent_refusals(session: Session, username: str) -> int:
    query = select(func.count()).where(
        AuditLog.entity_type == "app_user", AuditLog.entity_id == username,
        AuditLog.action == "sign_in_refused", AuditLog.at > func.now() - _REFUSAL_WINDOW,
    )  # fmt: skip
    return session.scalar(query) or 0


def _audit_user(session: Session, username: str, action: str, province_code: str) -> None:
    audit.record(
        session, username=username, action=action, entity_type="app_user", entity_id=username,
        province_code=province_code,
    )  # fmt: skip


def find_principal(session: Session, username: str, session_epoch: int) -> Principal | None:
    """The active user of that name, for a session cookie signed since the last sign-out."""
    user = session.scalar(
        select(AppUser).where(
            AppUser.username == username, AppUser.is_active.is_(True),
            AppUser.session_epoch == session_epoch,
        )
    )  # fmt: skip
    return None if user is None else _principal(user)


def list_users(session: Session, *, principal: Principal) -> list[AppUser]:
    """The users of the principal's province (all for headquarters) by name."""
    principal.require("user.read")
    query = select(AppUser).order_by(AppUser.username)
    return list(session.scalars(principal.only_own_province(query, AppUser.province_code)))


def recent_audit(session: Session, *, principal: Principal, limit: int = 200) -> list[AuditLog]:
    """The newest audit rows of the principal's province (all for headquarters)."""
    principal.require("audit.read")
    query = select(AuditLog).order_by(AuditLog.id.desc()).limit(limit)
    return list(session.scalars(principal.only_own_province(query, AuditLog.province_code)))


def _principal(user: AppUser) -> Principal:
    return Principal(
        username=user.username, display_name=user.display_name, role=user.role,
        province_code=user.province_code, language=user.language,
    )  # fmt: skip
