"""Everything `make up` starts and `make down` stops, as one: start, see, stop.

The services depend only on PostgreSQL, so they are prepared and started side by side. Whatever
fails, nothing is left half running: what this call started is stopped again.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tollhouse.ports import check_port
from tollhouse.postgres import EmbeddedServer
from tollhouse.services import superset
from tollhouse.services.airflow import airflow_service
from tollhouse.services.processes import (
    Program,
    Record,
    exit_code,
    is_running,
    read_records,
    start_process,
    stop_process,
    tail,
)
from tollhouse.services.service import Service
from tollhouse.services.superset import superset_service
from tollhouse.services.web import web_service
from tollhouse.settings import Settings

# Of slow and busy machines; a program that ends is not waited for.
PREPARE_TIMEOUT_S = 900.0
HEALTHY_TIMEOUT_S = 600.0
POLL_S = 0.3

Progress = Callable[[str], None]


class ServiceError(RuntimeError):
    """A service did not come up; the message says which, why, and what to do."""


class State(StrEnum):
    """How a service is."""

    running = "running"
    failing = "failing"  # processes run but it does not answer, or some of them have died
    stopped = "stopped"


@dataclass(frozen=True)
class ServiceStatus:
    """A service as it is now."""

    name: str
    title: str
    state: State
    address: str
    sign_in: str = ""
    pids: Sequence[int] = ()


def services_of(settings: Settings) -> list[Service]:
    """The services of an installation. Starts the embedded PostgreSQL, which they all need."""
    EmbeddedServer(settings.home).start()
    return [web_service(settings), airflow_service(settings), superset_service(settings)]


def up(
    settings: Settings,
    *,
    on_progress: Progress = lambda message: None,
    services: Sequence[Service] | None = None,
) -> list[ServiceStatus]:
    """Start what does not run yet and wait until every service answers. Safe to call again.

    Args:
        settings: says where and on which ports.
        on_progress: called with a line for a person whenever something has been achieved.
        services: which ones; all by default.

    Returns:
        Address and sign-ins of each service.

    Raises:
        ServiceError: a port is taken, or a service did not come up; nothing of it is left running.
    """
    with _only_one_call(settings):
        if services is None:
            if not superset.is_installed():
                raise ServiceError(f"{superset.ENVIRONMENT_DIR} is missing: run `make setup` first")
            services = services_of(settings)
            on_progress("PostgreSQL 已就绪 is ready")
        missing = []
        for each in services:
            if _state(settings, each) is State.running:
                on_progress(f"{each.title} 已在运行 is running already")
            else:
                _stop(settings, each)
                missing.append(each)
        for each in missing:
            _require_free_port(settings, each)
        _start_side_by_side(settings, missing, on_progress)
        return [_status(settings, each) for each in services]


def down(settings: Settings, *, on_progress: Progress = lambda message: None) -> None:
    """Stop every process of `up`, then the embedded PostgreSQL. Safe to call again."""
    with _only_one_call(settings):
        records = list(read_records(_run_dir(settings)).values())
        with ThreadPoolExecutor(max_workers=max(len(records), 1)) as pool:
            for record in pool.map(lambda each: _stop_record(settings, each), records):
                on_progress(f"{record.name} 已停止 has stopped")
        server = EmbeddedServer(settings.home)
        if server.is_running():
            server.stop()
            on_progress("PostgreSQL 已停止 has stopped")


def status(settings: Settings) -> list[ServiceStatus]:
    """How every service is. Starts nothing."""
    server = EmbeddedServer(settings.home)
    if not server.is_running():
        return [ServiceStatus("postgresql", "数据库 PostgreSQL", State.stopped, "")]
    postgresql = ServiceStatus(
        "postgresql", "数据库 PostgreSQL", State.running, server.url("tollhouse")
    )
    return [postgresql, *(_status(settings, each) for each in services_of(settings))]


def _start_side_by_side(
    settings: Settings, services: Sequence[Service], on_progress: Progress
) -> None:
    cancelled = threading.Event()

    def start(service: Service) -> Exception | None:
        try:
            _start(settings, service, cancelled)
        except Exception as error:
            return error
        on_progress(f"{service.title} 已就绪 is ready: {service.url}")
        return None

    try:
        with ThreadPoolExecutor(max_workers=max(len(services), 1)) as pool:
            try:
                errors = [error for error in pool.map(start, services) if error]
            except BaseException:  # Ctrl-C while waiting: the threads must not wait on
                cancelled.set()
                raise
        if errors:
            raise ServiceError("\n\n".join(str(error) for error in errors)) from errors[0]
    except BaseException:
        for service in services:
            _stop(settings, service)
        raise


def _start(settings: Settings, service: Service, cancelled: threading.Event) -> None:
    if service.preparation:
        record = _start_program(settings, service.preparation)
        code = _poll(lambda: exit_code(record), PREPARE_TIMEOUT_S, cancelled)
        stop_process(record, run_dir=_run_dir(settings))
        if code != 0:
            ended = "was still busy after its time" if code is None else f"ended with code {code}"
            raise ServiceError(_explain(service, f"its preparation {ended}", [record]))
    records = [_start_program(settings, program) for program in service.programs]

    def has_settled() -> bool | None:
        if not all(is_running(record) for record in records):
            return False
        return True if service.is_healthy() else None

    healthy = _poll(has_settled, HEALTHY_TIMEOUT_S, cancelled)
    if healthy is None:
        reason = f"it did not answer at {service.url} within {HEALTHY_TIMEOUT_S:.0f} s"
        raise ServiceError(_explain(service, reason, records))
    if not healthy:
        dead = [record for record in records if not is_running(record)]
        raise ServiceError(_explain(service, f"{dead[0].name} ended at once", dead))


def _poll(
    ask: Callable[[], int | None], timeout_s: float, cancelled: threading.Event
) -> int | None:
    """The first answer that is not None; None when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (answer := ask()) is not None:
            return answer
        if cancelled.wait(POLL_S):
            break
    return None


def _explain(service: Service, reason: str, records: Sequence[Record]) -> str:
    tails = "\n".join(f"--- end of {record.log}\n{tail(record.log)}" for record in records)
    return f"{service.title} did not start: {reason}.\n{tails}"


def _require_free_port(settings: Settings, service: Service) -> None:
    try:
        check_port(service.port, settings.host)
    except OSError as error:
        raise ServiceError(
            f"{service.title} cannot listen on port {service.port} of {settings.host} "
            f"({error.strerror}): stop the program that uses it, or set "
            f"{service.port_setting} to a free port and try again"
        ) from error


def _start_program(settings: Settings, program: Program) -> Record:
    return start_process(program, run_dir=_run_dir(settings), log_dir=settings.log_dir.resolve())


def _stop(settings: Settings, service: Service) -> None:
    names = {program.name for program in (*service.programs, service.preparation) if program}
    for name, record in read_records(_run_dir(settings)).items():
        if name in names:
            _stop_record(settings, record)


def _stop_record(settings: Settings, record: Record) -> Record:
    stop_process(record, run_dir=_run_dir(settings))
    return record


def _state(settings: Settings, service: Service) -> State:
    records = read_records(_run_dir(settings))
    names = [program.name for program in service.programs]
    alive = [name for name in names if name in records and is_running(records[name])]
    if not alive:
        return State.stopped
    return State.running if alive == names and service.is_healthy() else State.failing


def _status(settings: Settings, service: Service) -> ServiceStatus:
    records = read_records(_run_dir(settings))
    return ServiceStatus(
        name=service.name,
        title=service.title,
        state=_state(settings, service),
        address=service.url,
        sign_in=" · ".join(f"{user.username} / {user.password}" for user in service.sign_ins),
        pids=[
            records[program.name].pid
            for program in service.programs
            if program.name in records and is_running(records[program.name])
        ],
    )


def _run_dir(settings: Settings) -> Path:
    return settings.home.resolve() / "run"


@contextlib.contextmanager
def _only_one_call(settings: Settings) -> Iterator[None]:
    """Keep a second `make up` or `make down` of the same home from interfering."""
    run_dir = _run_dir(settings)
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "supervisor.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"another `make up` or `make down` of {settings.home} is at work: wait for its end"
            ) from None
        yield
