"""Bring Superset to the state these files describe: tables, roles, users, dashboards.

Run in Superset's environment before its server starts; running it again changes nothing:

    .venv-superset/bin/python dashboards/bootstrap.py

Besides what `superset_config` reads, it needs TOLLHOUSE_SERVING_URL (the database with the schema
``dm``, as a reader), TOLLHOUSE_ADMIN_PASSWORD and TOLLHOUSE_PROFILE.
"""

# ruff: noqa: PLC0415 - most modules of Superset can be imported only inside its application

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from bundle import ASSETS, asset_uuid, build_bundle, read_assets
from superset.app import create_app

ADMINISTRATOR = "admin"
SECURITY = ASSETS / "security.yaml"

app = create_app()
logging.getLogger("alembic").setLevel(logging.WARNING)


def migrate() -> None:
    """Bring Superset's own tables and permissions up to date."""
    import flask_migrate
    import superset
    from superset import appbuilder, security_manager

    flask_migrate.upgrade(directory=str(Path(superset.__file__).parent / "migrations"))
    appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()


def import_assets(contents: dict[str, str]) -> None:
    """Create or overwrite every asset of the bundle, as the administrator."""
    from flask import g
    from superset import security_manager
    from superset.commands.importers.v1.assets import ImportAssetsCommand

    g.user = security_manager.find_user(ADMINISTRATOR)
    try:
        ImportAssetsCommand(contents).run()
    except Exception as error:  # its own text says only "unknown reason"
        cause = error.__cause__ or error
        messages = getattr(cause, "normalized_messages", lambda: repr(cause))()
        sys.exit(f"the dashboards could not be imported: {messages}")


def prune(uuids: set[str]) -> None:
    """Delete the assets of an earlier bundle that are in it no longer; people's own stay."""
    from superset import db
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.dashboard import Dashboard
    from superset.models.slice import Slice

    for model in (Dashboard, Slice, SqlaTable):
        for asset in db.session.query(model).filter_by(is_managed_externally=True):
            if str(asset.uuid) not in uuids:
                db.session.delete(asset)
    db.session.commit()


def add_user(username: str, first_name: str, last_name: str, roles: list[Any]) -> None:
    """A user with these roles and the configured password."""
    from superset import security_manager
    from werkzeug.security import check_password_hash

    password = os.environ["TOLLHOUSE_ADMIN_PASSWORD"]
    email = f"{username}@localhost"
    user = security_manager.find_user(username)
    if user is None:
        security_manager.add_user(username, first_name, last_name, email, roles, password=password)
        return
    user.roles = roles
    if not check_password_hash(user.password, password):
        security_manager.reset_password(user.id, password)


def apply_security() -> None:
    """Roles by data set and province, and the demo's users."""
    from superset import db, security_manager
    from superset.connectors.sqla.models import RowLevelSecurityFilter, SqlaTable

    rules = yaml.safe_load(SECURITY.read_text("utf-8"))
    column = rules["province_column"]
    files = read_assets()["dataset"]
    datasets = {
        slug: db.session.query(SqlaTable).filter_by(uuid=asset_uuid("dataset", slug)).one()
        for slug in files
    }
    by_province = [
        datasets[slug]
        for slug, content in files.items()
        if column in {each["column_name"] for each in content["columns"]}
    ]

    viewer = security_manager.add_role(rules["viewer_role"])
    permissions = list(security_manager.find_role("Gamma").permissions) + [
        security_manager.add_permission_view_menu("datasource_access", dataset.get_perm())
        for dataset in datasets.values()
    ]
    viewer.permissions = list({permission.id: permission for permission in permissions}.values())

    provincial = {}
    for code, name in rules["provinces"].items():
        role = security_manager.add_role(f"province_{code}")
        rule_name = f"province_{code}"
        rule = db.session.query(RowLevelSecurityFilter).filter_by(name=rule_name).one_or_none()
        rule = rule or RowLevelSecurityFilter(name=rule_name)
        rule.description = name
        rule.filter_type = "Regular"  # for the roles listed, not for everybody else
        rule.group_key, rule.clause = column, f"{column} = '{code}'"
        rule.tables, rule.roles = by_province, [role]
        db.session.add(rule)
        provincial[code] = role

    if os.environ["TOLLHOUSE_PROFILE"] == "embedded":
        for user in rules["demo_users"]:
            roles = [viewer, *([provincial[user["province"]]] if user["province"] else [])]
            add_user(user["username"], user["first_name"], user["last_name"], roles)
    db.session.commit()


def main() -> None:
    """Everything, in one process: each start of Superset's own command costs several seconds."""
    with app.app_context():
        from superset import security_manager

        migrate()
        add_user(ADMINISTRATOR, "管理", "员", [security_manager.find_role("Admin")])
        contents = build_bundle(os.environ["TOLLHOUSE_SERVING_URL"])
        import_assets(contents)
        prune({yaml.safe_load(text).get("uuid") for text in contents.values()})
        apply_security()


if __name__ == "__main__":
    main()
