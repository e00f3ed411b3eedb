"""The web module as a service: customers, orders, bills."""

from __future__ import annotations

import sys

from tollhouse.services.processes import Program
from tollhouse.services.service import Service, answers, environment, local_url, sign_ins
from tollhouse.settings import PROJECT_ROOT, Settings

# The demo users of the embedded profile, one for each role beside the administrator.
DEMO_USERS = ("agent44", "finance", "operator", "analyst")
APPLICATION = "operational.app:create_app_from_environment"


def web_service(settings: Settings) -> Service:
    """The web module, one process."""
    url = local_url(settings, settings.web_port)
    command = [
        sys.executable, "-m", "uvicorn", "--factory", APPLICATION,
        "--host", settings.host, "--port", str(settings.web_port), "--no-server-header",
    ]  # fmt: skip
    return Service(
        name="web",
        title="业务受理 Web module",
        url=url,
        port=settings.web_port,
        port_setting="TOLLHOUSE_WEB_PORT",
        programs=[Program("web", command, environment(settings), PROJECT_ROOT)],
        is_healthy=lambda: answers(f"{url}/healthz"),
        sign_ins=sign_ins(settings, *DEMO_USERS),
    )
