"""Airflow as a service: it runs the pipeline's steps by time and by what has changed.

Three processes (no task of ours is deferred, so there is no triggerer); tasks run below the
scheduler on this machine. Its metadata is in the embedded PostgreSQL.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from tollhouse.postgres import database_url
from tollhouse.services import service
from tollhouse.services.processes import Program
from tollhouse.services.service import Service, SignIn, derive_key, local_url
from tollhouse.settings import PROJECT_ROOT, Settings

METADATA_DATABASE = "airflow"
DAGS_DIR = PROJECT_ROOT / "dags"
WRITER_POOL = "warehouse_writer"
ROLES = {"admin": "admin", "operator": "op", "analyst": "viewer"}  # user → Airflow's role
WATCHED = ("metadatabase", "scheduler", "dag_processor")


def airflow_service(settings: Settings) -> Service:
    """Airflow's API server, scheduler and DAG processor."""
    url = local_url(settings, settings.airflow_port)
    variables = airflow_environment(settings)

    def program(name: str, *arguments: str) -> Program:
        return Program(f"airflow-{name}", [sys.executable, "-m", *arguments], variables, DAGS_DIR)

    return Service(
        name="airflow",
        title="调度 Airflow",
        url=url,
        port=settings.airflow_port,
        port_setting="TOLLHOUSE_AIRFLOW_PORT",
        preparation=program("prepare", "tollhouse.services.airflow_metadata"),
        programs=[
            program("api-server", "airflow", "api-server"),
            program("scheduler", "airflow", "scheduler", "--skip-serve-logs"),
            program("dag-processor", "airflow", "dag-processor"),
        ],
        is_healthy=lambda: _is_healthy(url),
        sign_ins=_sign_ins(settings),
    )


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Environment of every Airflow process: its configuration, and our settings for the tasks."""
    url = local_url(settings, settings.airflow_port)
    home = settings.home.resolve() / "airflow"
    metadata = database_url(settings, METADATA_DATABASE)
    users = ",".join(f"{user.username}:{ROLES[user.username]}" for user in _sign_ins(settings))
    return service.environment(settings) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("://", "+psycopg2://", 1),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_DIR),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": derive_key(settings, "airflow fernet"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords_file(settings)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": derive_key(settings, "airflow pages"),
        "AIRFLOW__API_AUTH__JWT_SECRET": derive_key(settings, "airflow tokens") * 2,  # for HS512
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.log_dir.resolve() / "airflow"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def write_passwords(settings: Settings) -> None:
    """Write the file Airflow checks sign-ins against, readable by its owner only."""
    password = settings.admin_password.get_secret_value()
    path = _passwords_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({user.username: password for user in _sign_ins(settings)}))


def _sign_ins(settings: Settings) -> tuple[SignIn, ...]:
    return service.sign_ins(settings, *(name for name in ROLES if name != service.ADMINISTRATOR))


def _passwords_file(settings: Settings) -> Path:
    return settings.home.resolve() / "airflow" / "passwords.json"


def _is_healthy(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=service.HEALTH_TIMEOUT_S)
        return answer.is_success and all(
            answer.json()[part]["status"] == "healthy" for part in WATCHED
        )
    except (httpx.HTTPError, ValueError, KeyError):
        return False
