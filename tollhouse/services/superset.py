"""Superset as a service: dashboards over the published marts, as the read-only role.

It lives in an environment of its own (its pins conflict with ours), so all it learns of the
settings goes through environment variables; see ``dashboards/``.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from tollhouse.postgres import EmbeddedServer, database_url, operational_url
from tollhouse.services import service
from tollhouse.services.processes import Program
from tollhouse.services.service import Service, derive_key, local_url
from tollhouse.settings import PROJECT_ROOT, Profile, Settings

METADATA_DATABASE = "superset"
DASHBOARDS_DIR = PROJECT_ROOT / "dashboards"
ENVIRONMENT_DIR = PROJECT_ROOT / ".venv-superset"
OVERVIEW_PATH = "/superset/dashboard/operations-overview/"


def superset_service(settings: Settings) -> Service:
    """Superset behind gunicorn, after its tables, users and dashboards were brought up to date."""
    url = local_url(settings, settings.superset_port)
    variables = superset_environment(settings)
    programs = ENVIRONMENT_DIR / "bin"
    serve = [
        str(programs / "gunicorn"), "--workers", "2", "--worker-class", "gthread",
        "--threads", "8", "--timeout", "120", "--no-control-socket",
        "--bind", f"{settings.host}:{settings.superset_port}", "superset.app:create_app()",
    ]  # fmt: skip
    bootstrap = [str(programs / "python"), str(DASHBOARDS_DIR / "bootstrap.py")]
    return Service(
        name="superset",
        title="看板 Superset",
        url=f"{url}{OVERVIEW_PATH}",
        port=settings.superset_port,
        port_setting="TOLLHOUSE_SUPERSET_PORT",
        preparation=Program("superset-prepare", bootstrap, variables, DASHBOARDS_DIR),
        programs=[Program("superset", serve, variables, DASHBOARDS_DIR)],
        is_healthy=lambda: service.answers(f"{url}/health"),
        sign_ins=service.sign_ins(settings, "analyst", "guangdong"),
    )


def superset_environment(settings: Settings) -> dict[str, str]:
    """Environment of Superset's processes."""
    home = settings.home.resolve() / "superset"
    home.mkdir(parents=True, exist_ok=True)
    metadata = database_url(settings, METADATA_DATABASE)
    return service.environment(settings) | {
        "SUPERSET_HOME": str(home),
        "SUPERSET_CONFIG_PATH": str(DASHBOARDS_DIR / "superset_config.py"),
        "FLASK_APP": "superset.app:create_app()",
        "TOLLHOUSE_SECRET_KEY": derive_key(settings, "superset"),
        "TOLLHOUSE_SUPERSET_HOME": str(home),
        "TOLLHOUSE_SUPERSET_METADATA_URL": metadata.replace("://", "+psycopg2://", 1),
        "TOLLHOUSE_SERVING_URL": serving_url(settings),
    }


def serving_url(settings: Settings) -> str:
    """SQLAlchemy URL of the published marts, as the reader and in our civil time.

    Outside the embedded profile it carries no password: libpq takes the reader's from its usual
    password file (``PGPASSFILE``).
    """
    from tollhouse.warehouse.serving import READER_ROLE  # noqa: PLC0415 - loads dbt: takes seconds

    parts = urlsplit(operational_url(settings))
    address = parts.netloc.rpartition("@")[2]
    options = quote(f"-c timezone={settings.timezone}", safe="=/")
    who = READER_ROLE
    if settings.profile is Profile.embedded:
        who += f":{EmbeddedServer(settings.home).role_password(READER_ROLE)}"
    return f"postgresql+psycopg2://{who}@{address}{parts.path}?options={options}"


def is_installed(environment_dir: Path = ENVIRONMENT_DIR) -> bool:
    """Whether Superset's environment is there."""
    return (environment_dir / "bin" / "gunicorn").exists()
