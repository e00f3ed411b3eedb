"""REST: the user who calls, and the users an administrator sees."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from operational.identity import service
from operational.problem_details import CallerOf, ReadingOf

router = APIRouter(prefix="/api/identity/v1", tags=["identity"])


class UserView(BaseModel):
    """A user, without the password's hash."""

    username: str
    displayName: str
    role: str
    provinceCode: str


@router.get("/me")
def me(caller: CallerOf) -> UserView:
    """Who calls."""
    return UserView(
        username=caller.username, displayName=caller.display_name, role=caller.role,
        provinceCode=caller.province_code,
    )  # fmt: skip


@router.get("/user")
def users(caller: CallerOf, database: ReadingOf) -> list[UserView]:
    """The users of the caller's province, all for headquarters (administrators only)."""
    return [
        UserView(
            username=user.username, displayName=user.display_name, role=user.role,
            provinceCode=user.province_code,
        )
        for user in service.list_users(database, principal=caller)
    ]  # fmt: skip
