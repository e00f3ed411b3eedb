"""Fetching from other machines: real SFTP, FTP and S3 servers on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import paramiko
import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

from ingestion import archive, collect, land
from ingestion.archive import Incoming
from ingestion.sources import load_sources
from ingestion.transport import (
    FtpFolder,
    LocalFolder,
    S3Folder,
    SftpFolder,
    UnreachableError,
    open_location,
)
from tollhouse.postgres import connect
from tollhouse.settings import Settings

HOST, USER, PASSWORD = "127.0.0.1", "collector", "a secret of this test"
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
NAME = "MSC-99_1.cdr"


@pytest.fixture
def folder(tmp_path: Path, build: Any) -> Path:
    """What the other machine offers: a large file, one still being written, and a folder."""
    path = tmp_path / "out"
    (path / "sub").mkdir(parents=True)
    lines = [build.switch_record(call_reference=str(number)) for number in range(20_000)]
    (path / NAME).write_bytes(build.switch_file(lines, source="MSC-99"))
    (path / "MSC-99_2.cdr.part").write_bytes(b"HDR|")
    os.utime(path / NAME, (RECEIVED.timestamp(), RECEIVED.timestamp()))
    return path


class _Server(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        good = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Folder(paramiko.SFTPServerInterface):
    root: Path

    def _real(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def list_folder(self, path: str) -> Any:
        try:
            return [
                paramiko.SFTPAttributes.from_stat(each.stat(), each.name)
                for each in self._real(path).iterdir()
            ]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(self._real(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def remove(self, path: str) -> int:
        self._real(path).unlink()
        return paramiko.SFTP_OK

    def mkdir(self, path: str, attr: Any) -> int:
        self._real(path).mkdir()
        return paramiko.SFTP_OK

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._real(newpath).exists():
            return paramiko.SFTP_FAILURE
        self._real(oldpath).rename(self._real(newpath))
        return paramiko.SFTP_OK

    def open(self, path: str, flags: int, attr: Any) -> Any:
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = self._real(path).open("rb")  # type: ignore[attr-defined]
        return handle


@pytest.fixture
def sftp(folder: Path, tmp_path: Path, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """An SSH server with one host key; ``known_hosts`` has it."""
    key = paramiko.RSAKey.generate(2048)
    listener = socket.create_server((HOST, 0))
    port = listener.getsockname()[1]
    transports: list[paramiko.Transport] = []
    interface = type("Rooted", (_Folder,), {"root": folder.parent})

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(client)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, interface)
            transports.append(transport)
            try:
                transport.start_server(server=_Server())
            except (paramiko.SSHException, EOFError):
                transport.close()

    threading.Thread(target=serve, daemon=True).start()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{HOST}]:{port} {key.get_name()} {key.get_base64()}\n")
    monkeypatch.setenv("MSC99_USER", USER)
    monkeypatch.setenv("MSC99_PASSWORD", PASSWORD)
    monkeypatch.setenv("MSC99_HOSTS", str(known))
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    yield {
        "location": f"sftp://{HOST}:{port}/out",
        "credentials": {
            "user": "MSC99_USER", "password": "MSC99_PASSWORD", "known_hosts_file": "MSC99_HOSTS",
        },
    }  # fmt: skip
    listener.close()
    for transport in transports:
        transport.close()


@pytest.fixture
def ftp(folder: Path, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """An FTP server of today."""
    yield from _serve_ftp(folder, monkeypatch, dict(FTPHandler.proto_cmds))


@pytest.fixture
def old_ftp(folder: Path, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """An FTP server that does not know the listing of RFC 3659."""
    commands = {name: each for name, each in FTPHandler.proto_cmds.items() if name != "MLSD"}
    yield from _serve_ftp(folder, monkeypatch, commands)


def _serve_ftp(
    folder: Path, monkeypatch: Any, commands: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder.parent), perm="elrdfm")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "proto_cmds": commands})
    server = FTPServer((HOST, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.1}, daemon=True)
    thread.start()
    monkeypatch.setenv("MSC99_USER", USER)
    monkeypatch.setenv("MSC99_PASSWORD", PASSWORD)
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    yield {
        "location": f"ftp://{HOST}:{server.address[1]}/out",
        "credentials": {"user": "MSC99_USER", "password": "MSC99_PASSWORD"},
    }
    server.close_all()


@pytest.fixture
def s3(folder: Path, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """An S3 store with the files below a prefix."""
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
        aws_access_key_id=USER, aws_secret_access_key=PASSWORD,
    )  # fmt: skip
    for backend in get_backend("s3").values():  # else it has what the test before put there
        backend["global"].reset()
    store.create_bucket(Bucket="usage")
    for path in folder.glob("*.*"):
        store.put_object(Bucket="usage", Key=f"out/{path.name}", Body=path.read_bytes())
    store.put_object(Bucket="usage", Key="out/sub/deeper.cdr", Body=b"x")
    monkeypatch.setenv("MSC99_KEY", USER)
    monkeypatch.setenv("MSC99_SECRET", PASSWORD)
    yield {
        "location": f"s3://usage/out?endpoint={host}:{port}&scheme=http&region=us-east-1",
        "credentials": {"access_key": "MSC99_KEY", "secret_key": "MSC99_SECRET"},
    }
    server.stop()


@pytest.fixture
def local(folder: Path) -> dict[str, Any]:
    """A folder of this machine."""
    return {"location": str(folder)}


def with_source(settings: Settings, tmp_path: Path, changed: dict[str, Any]) -> Settings:
    """The settings with a source of the user's own, fetched from elsewhere."""
    entry = {
        "source_id": "MSC-99", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": r"MSC-99_.*\.cdr", "sequence_rule": "continuous",
        "late_after_hours": 24, "settle_minutes": 0,
    } | changed  # fmt: skip
    (tmp_path / "own").mkdir(exist_ok=True)
    text = json.dumps({"sources": [entry]})  # JSON is YAML
    (tmp_path / "own" / "sources.yaml").write_text(text, encoding="utf-8")
    return settings.model_copy(update={"sources_dir": tmp_path / "own"})


@pytest.mark.parametrize("kind", ["sftp", "ftp", "old_ftp", "s3"])
def test_files_of_another_machine_are_collected_once_and_unchanged(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, folder: Path, journal: Any, request: Any, kind: str
) -> None:
    own = with_source(settings, tmp_path, request.getfixturevalue(kind))
    result = collect(own)
    assert (result.collected, result.unreachable, result.skipped) == ([f"MSC-99/{NAME}"], {}, {})
    assert collect(own).known == 1

    (row,) = journal().values()
    content = (folder / NAME).read_bytes()
    assert (row["size_bytes"], row["sequence_number"]) == (len(content), 1)
    if kind != "s3":  # an object's time is that of its upload
        assert row["received_at"] == RECEIVED
    original = archive.Original(
        archive.archive_path(own, f"MSC-99/{NAME}"), row["sha256"], row["size_bytes"]
    )
    with original.open() as stream:
        assert stream.read() == content
    assert land(own).records == 20_000
    assert {each.name for each in folder.iterdir()} == {NAME, "MSC-99_2.cdr.part", "sub"}


def test_an_sftp_host_that_is_not_known_gets_no_password(
    settings: Settings, tmp_path: Path, sftp: dict[str, Any]
) -> None:
    (tmp_path / "known_hosts").write_text("")
    result = collect(with_source(settings, tmp_path, sftp))

    assert "not found in known_hosts" in result.unreachable["MSC-99"]
    assert result.collected == []


@pytest.mark.parametrize("kind", ["sftp", "ftp", "s3"])
def test_a_host_that_does_not_answer_is_reported_without_credentials(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, kind: str, monkeypatch: Any, deliver: Any, build: Any
) -> None:
    deliver("MSC-44", "MSC-44_20261005_000001.cdr", build.switch_file([build.switch_record()]))
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("MSC99_USER", USER)
    monkeypatch.setenv("MSC99_PASSWORD", PASSWORD)
    location = {
        "sftp": f"sftp://{HOST}:{port}/out", "ftp": f"ftp://{HOST}:{port}/out",
        "s3": f"s3://usage/out?endpoint={HOST}:{port}&scheme=http&region=us-east-1",
    }[kind]  # fmt: skip
    names = ("access_key", "secret_key") if kind == "s3" else ("user", "password")
    credentials = dict(zip(names, ("MSC99_USER", "MSC99_PASSWORD"), strict=True))
    own = with_source(settings, tmp_path, {"location": location, "credentials": credentials})
    result = collect(own)

    assert result.collected == ["MSC-44/MSC-44_20261005_000001.cdr"]
    assert list(result.unreachable) == ["MSC-99"]
    assert location.partition("?")[0] in result.unreachable["MSC-99"]
    assert PASSWORD not in result.unreachable["MSC-99"]


def test_a_wrong_password_is_reported(
    settings: Settings, tmp_path: Path, sftp: dict[str, Any], monkeypatch: Any
) -> None:
    monkeypatch.setenv("MSC99_PASSWORD", "another one")
    result = collect(with_source(settings, tmp_path, sftp))

    assert "Authentication failed" in result.unreachable["MSC-99"]


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UnreachableError, match=r"environment variable MSC99_NONE .* is not set"),
        open_location(f"sftp://{HOST}/out", {"password": "MSC99_NONE"}),
    ):
        pass


def test_a_missing_bucket_and_a_missing_folder_are_unreachable(
    s3: dict[str, Any], tmp_path: Path
) -> None:
    elsewhere = s3["location"].replace("//usage/", "//nowhere/")
    for location, credentials in ((elsewhere, s3["credentials"]), (str(tmp_path / "no"), {})):
        with open_location(location, credentials) as opened, pytest.raises(UnreachableError):
            list(opened.deliveries())


def names_at(own: Settings, sub: str = "") -> set[str]:
    """What stands at the source's location, or in a folder there."""
    source = load_sources(own)["MSC-99"]
    url, _, query = source.is_at(own).partition("?")
    place = f"{url}/{sub}".rstrip("/") + (f"?{query}" if query else "")
    with open_location(place, source.credentials) as location:
        return {each.name for each in location.deliveries()}


@pytest.mark.parametrize("kind", ["sftp", "ftp", "old_ftp", "s3"])
@pytest.mark.parametrize("after", ["delete", "move"])
@pytest.mark.usefixtures("folder")
def test_a_file_of_another_machine_is_cleared_away_only_where_its_source_says_so(
    settings: Settings, tmp_path: Path, request: Any, kind: str, after: str
) -> None:
    place = request.getfixturevalue(kind)
    kept = with_source(settings, tmp_path, place)
    assert collect(kept).cleared_away == 0
    assert names_at(kept) == {NAME, "MSC-99_2.cdr.part"}

    own = with_source(settings, tmp_path, place | {"after_collection": after})
    result = collect(own)
    assert (result.cleared_away, result.left_behind) == (1, {})
    assert names_at(own) == {"MSC-99_2.cdr.part"}
    if after == "move":
        assert names_at(own, "collected") == {NAME}
    again = collect(own)
    assert (again.cleared_away, again.known, again.collected) == (0, 0, [])


FOLDERS = {"local": LocalFolder, "sftp": SftpFolder, "ftp": FtpFolder, "s3": S3Folder}
CLEARING = {"done_marker": ".done", "late_after_hours": 90_000}


class Killed(BaseException):
    """What ends a collection at a step of the test's choice."""


class Steps:
    """What happens at one of the steps of a collection: before and after everything it does."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        self.at, self.action, self.passed = at, action, 0
        self.is_removing = False

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.action()

    def watch(self, patched: Any, kind: str) -> None:
        watched = [(FOLDERS[kind], name) for name in ("look_at", "hold", "remove", "move", "open")]
        for owner, name in [*watched, (Incoming, "place")]:
            patched.setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            # Between the last look at an object and its end is the moment that S3 leaves open.
            if self.is_removing:
                return method(*arguments)
            self()
            self.is_removing = method.__name__ == "remove"
            try:
                result = method(*arguments)
            finally:
                self.is_removing = False
            self()
            return result

        return call


def put(own: Settings, folder: Path, name: str, content: bytes) -> None:
    """Deliver a file where the source has its files, over one that is there."""
    source = load_sources(own)["MSC-99"]
    if not source.is_at(own).startswith("s3"):
        (folder / name).write_bytes(content)
        return
    with open_location(source.is_at(own), source.credentials) as location:
        assert isinstance(location, S3Folder)
        with location._store.open_output_stream(f"{location._folder}/{name}") as stream:
            stream.write(content)


def age(folder: Path, *names: str) -> None:
    """Let files be as old as those of the other tests; an object has the time of its upload."""
    for name in names:
        if (folder / name).exists():
            os.utime(folder / name, (RECEIVED.timestamp(), RECEIVED.timestamp()))


def rows_of(journal: Any, name: str) -> dict[str, dict[str, Any]]:
    """What the journal has under a name, by digest."""
    rows = [row for row in journal().values() if row["file_name"] == name]
    by_digest = {row["sha256"]: row for row in rows}
    told = [(row["file_id"], row["status"], row["received_at"]) for row in rows]
    assert len(by_digest) == len(rows), f"the same content twice: {told}"
    return by_digest


@pytest.mark.parametrize("kind", ["local", "sftp", "ftp", "s3"])
@pytest.mark.parametrize("after", ["delete", "move"])
def test_a_collection_that_clears_away_may_be_killed_at_every_step(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, folder: Path, journal: Any, request: Any, build: Any,
    monkeypatch: Any, kind: str, after: str,
) -> None:  # fmt: skip
    place = request.getfixturevalue(kind)
    own = with_source(settings, tmp_path, place | CLEARING | {"after_collection": after})

    def die() -> None:
        raise Killed

    for at in count(1):
        name = f"MSC-99_{100 + at}.cdr"
        record = build.switch_record(call_reference=name)
        content = build.switch_file([record], source="MSC-99", sequence=at)
        put(own, folder, name, content)
        put(own, folder, f"{name}.done", b"")
        age(folder, name, f"{name}.done")
        with monkeypatch.context() as patched:
            steps = Steps(at, die)
            steps.watch(patched, kind)
            with contextlib.suppress(Killed):
                collect(own)
        collect(own)
        (row,) = rows_of(journal, name).values()
        assert (row["status"], row["sha256"]) == ("collected", sha256(content).hexdigest())
        path = archive.archive_path(own, row["file_id"])
        archive.Original(path, row["sha256"], row["size_bytes"]).verify()
        left = {each for each in names_at(own) if each.startswith(name)}
        assert left == set(), f"killed at step {at}"
        if after == "move":
            moved = {each for each in names_at(own, "collected") if each.startswith(name)}
            assert moved == {name}
        if steps.passed < at:
            break
    assert at > 10, "the steps were not watched"
    with connect(settings) as connection:
        assert connection.execute("select kind, file_id from control.file_alarm").fetchall() == []


@pytest.mark.parametrize(
    ("kind", "after", "is_killed"),
    [
        ("local", "delete", False), ("local", "delete", True), ("local", "move", False),
        ("local", "move", True), ("sftp", "delete", True), ("sftp", "move", False),
        ("ftp", "delete", False), ("ftp", "move", True), ("s3", "delete", False),
        ("s3", "move", True),
    ],
)  # fmt: skip
def test_what_overwrites_a_file_while_it_is_cleared_away_is_not_lost(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, folder: Path, journal: Any, request: Any, build: Any,
    monkeypatch: Any, kind: str, after: str, is_killed: bool,
) -> None:  # fmt: skip
    place = request.getfixturevalue(kind)
    own = with_source(settings, tmp_path, place | CLEARING | {"after_collection": after})
    for at in count(1):
        name = f"MSC-99_{100 + at}.cdr"
        former, latter = (
            build.switch_file(
                [build.switch_record(call_reference=f"{name}{length}")] * length,
                source="MSC-99", sequence=at,
            )
            for length in (1, 2)
        )  # fmt: skip
        put(own, folder, name, former)
        put(own, folder, f"{name}.done", b"")
        age(folder, name, f"{name}.done")

        def overwrite(name: str = name, latter: bytes = latter) -> None:
            put(own, folder, name, latter)
            # A store tells times by the second: an empty marker would look as the one before.
            put(own, folder, f"{name}.done", b"again")
            if is_killed:
                raise Killed

        with monkeypatch.context() as patched:
            steps = Steps(at, overwrite)
            steps.watch(patched, kind)
            with contextlib.suppress(Killed):
                collect(own)
        collect(own)
        collect(own)
        rows = rows_of(journal, name)
        if steps.passed < at:
            break
        row = rows[sha256(latter).hexdigest()]
        is_refused = row["status"] == "rejected"
        assert is_refused == (sha256(former).hexdigest() in rows)
        path = archive.quarantine_path if is_refused else archive.archive_path
        original = archive.Original(path(own, row["file_id"]), row["sha256"], row["size_bytes"])
        with original.open() as stream:
            assert stream.read() == latter
    assert at > 10, "the steps were not watched"


@pytest.mark.parametrize("after", ["delete", "move"])
def test_another_file_of_the_same_name_size_and_second_is_not_cleared_away_unread(  # noqa: PLR0917
    settings: Settings, tmp_path: Path, folder: Path, journal: Any, local: dict[str, Any],
    build: Any, monkeypatch: Any, after: str,
) -> None:  # fmt: skip
    own = with_source(settings, tmp_path, local | {"after_collection": after})
    former, latter = (
        build.switch_file([build.switch_record(call_reference=text)], source="MSC-99", sequence=1)
        for text in ("former", "latter")
    )
    second = int(datetime.now(UTC).timestamp())
    path = folder / NAME

    def write(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, (second, second))

    write(former)
    hold = LocalFolder.hold

    def overwrite_and_hold(location: LocalFolder, delivery: Any) -> Any:
        write(latter)
        return hold(location, delivery)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFolder, "hold", overwrite_and_hold)
        result = collect(own)
    assert (len(result.collected), len(result.rejected), result.cleared_away) == (1, 1, 0)
    refused = rows_of(journal, NAME)[sha256(latter).hexdigest()]
    quarantined = archive.quarantine_path(own, refused["file_id"])
    archive.Original(quarantined, refused["sha256"], refused["size_bytes"]).verify()
    again = collect(own)
    assert (again.rejected, again.cleared_away) == ({}, 0), "it is refused once, and stays"
    assert [each.read_bytes() for each in folder.glob(f"{NAME}*")] == [latter]


@pytest.mark.parametrize("kind", ["local", "sftp", "ftp", "s3"])
def test_a_file_is_moved_over_none_that_is_there(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, folder: Path, request: Any, build: Any, kind: str
) -> None:
    own = with_source(settings, tmp_path, request.getfixturevalue(kind) | CLEARING)
    put(own, folder, NAME, build.switch_file([build.switch_record()], source="MSC-99"))
    put(own, folder, f"{NAME}.done", b"")
    age(folder, NAME)
    (folder / "collected").mkdir()
    source = load_sources(own)["MSC-99"]
    with open_location(source.is_at(own), source.credentials) as location:
        stamp = f"{location.look_at(NAME).modified_at:%Y%m%dT%H%M%S.%f}"
    there = {NAME: b"1", f"{NAME}#{stamp}": b"2", f"{NAME}#{stamp}#2": b"3"}
    for name, content in there.items():
        put(own, folder, f"collected/{name}", content)
    moving = with_source(
        settings, tmp_path, request.getfixturevalue(kind) | CLEARING | {"after_collection": "move"}
    )
    assert collect(moving).cleared_away == 1
    assert names_at(own, "collected") == {*there, f"{NAME}#{stamp}#3"}


@pytest.mark.parametrize("kind", ["local", "sftp", "ftp"])
def test_a_file_whose_held_name_is_taken_waits_and_says_so(  # noqa: PLR0917 - fixtures
    settings: Settings, tmp_path: Path, folder: Path, journal: Any, request: Any, build: Any,
    kind: str,
) -> None:  # fmt: skip
    place = request.getfixturevalue(kind) | {"after_collection": "delete"}
    own = with_source(settings, tmp_path, place)
    content = build.switch_file([build.switch_record()], source="MSC-99")
    put(own, folder, NAME, content)
    put(own, folder, f"{NAME}.tollhouse-held", b"nonsense")
    age(folder, NAME)
    result = collect(own)
    assert (len(result.collected), len(result.rejected)) == (1, 1)
    assert f"{NAME}.tollhouse-held is there" in result.left_behind[f"MSC-99/{NAME}"]
    assert len(rows_of(journal, NAME)) == 2
    (folder / f"{NAME}.tollhouse-held").unlink()
    assert (collect(own).cleared_away, names_at(own)) == (1, {"MSC-99_2.cdr.part"})
