"""Where files are fetched from: a folder, SFTP, FTP or S3, all behind the same calls.

A location is one flat folder; what is in folders below it is not looked at. Nothing is changed or
deleted there but by `hold`, `remove` and `move`, which only a source that says so asks for. Every
call that the other side cannot answer raises `UnreachableError`.

A file is cleared away in two steps. Held, it has a name under which nobody writes: whoever delivers
another of its name meanwhile makes a new file. What is held is looked at, and goes only if it is
what was taken in. An object store renames nothing: there the object is looked at once more right
before it goes, and a bucket that keeps versions keeps what was written at that very moment.
"""

from __future__ import annotations

import contextlib
import ftplib
import os
import posixpath
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs as arrow_fs

from tollhouse.settings import MissingSecretError, read_secret

if TYPE_CHECKING:
    import paramiko

SCHEMES = ("file", "sftp", "ftp", "ftps", "s3")
TIMEOUT_S = 30.0  # the other side has to answer within

# Names of the credentials that a location may need; which variables hold them says the source.
CREDENTIALS = (
    "user", "password", "private_key_file", "known_hosts_file", "access_key", "secret_key",
    "session_token",
)  # fmt: skip


MOVED_TO = "collected"  # the folder in a location that files are moved to
HELD_SUFFIX = ".tollhouse-held"  # behind the name of a file that is being cleared away


class UnreachableError(OSError):
    """A location cannot be reached, or does not answer; the message says which and why."""


@dataclass(frozen=True)
class Delivery:
    """One file at a location; `modified_at` in UTC by the clock there."""

    name: str
    size: int
    modified_at: datetime

    @property
    def delivered_name(self) -> str:
        """The name it was delivered under, also while it is held."""
        return self.name.removesuffix(HELD_SUFFIX)

    @property
    def held_name(self) -> str:
        """The name it has while it is held."""
        return self.delivered_name + HELD_SUFFIX

    def is_as(self, other: Delivery) -> bool:
        """Whether the other is the same file, whatever it is called."""
        return (self.size, self.modified_at) == (other.size, other.modified_at)


class Location(Protocol):
    """A folder that files are fetched from."""

    @property
    def is_parallel(self) -> bool:
        """Whether several threads may read files at once."""

    def deliveries(self) -> Iterator[Delivery]:
        """The files in the folder, in no order.

        Raises:
            UnreachableError: it cannot be listed.
        """

    def look_at(self, name: str) -> Delivery:
        """One file as it is now.

        Raises:
            FileNotFoundError: it is gone.
        """

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Its content as a stream.

        Raises:
            FileNotFoundError: it is gone.
            OSError: it cannot be read.
        """

    def describe(self, name: str) -> str:
        """Where the file is, for people; without credentials."""

    def hold(self, delivery: Delivery) -> Delivery:
        """Give a file its held name; returns it as it is then. A held one is only looked at.

        Raises:
            FileNotFoundError: it is gone.
            FileExistsError: another of its name is held.
            OSError: it may not be renamed.
        """

    def remove(self, delivery: Delivery) -> None:
        """Delete a file there.

        Raises:
            FileNotFoundError: it is gone, or another is in its place.
            OSError: it may not be deleted.
        """

    def move(self, held: Delivery) -> None:
        """Move a held file into the folder `MOVED_TO`; a name that is taken gets its time behind.

        Raises:
            FileNotFoundError: it is gone, or another is in its place.
            OSError: it may not be moved.
        """


def _free_name(delivery: Delivery, is_taken: Callable[[str], bool]) -> str:
    """The delivered name; with the file's time behind it, and a number, when that is taken."""
    name = delivery.delivered_name
    if not is_taken(name):
        return name
    name = f"{name}#{delivery.modified_at:%Y%m%dT%H%M%S.%f}"
    if not is_taken(name):
        return name
    return next(each for number in count(2) if not is_taken(each := f"{name}#{number}"))


def _another_is_held(shown: str) -> FileExistsError:
    return FileExistsError(
        f"{shown} is there, which is not what was taken in under the name: load it again or"
        " take it away"
    )


@contextlib.contextmanager
def open_location(url: str, credentials: Mapping[str, str]) -> Iterator[Location]:
    """Reach a location, and let go of it at the end.

    Args:
        url: an absolute path or `file://`, `sftp://`, `ftp://`, `ftps://` or `s3://` URL.
        credentials: by the names of `CREDENTIALS` the environment variables that hold them.

    Raises:
        UnreachableError: it cannot be reached; credentials are missing or refused.
    """
    parts = urlsplit(url)
    try:
        given = {
            name: read_secret(variable, f"{name} of {_shown(parts)}").get_secret_value()
            for name, variable in credentials.items()
        }
    except MissingSecretError as error:
        raise UnreachableError(str(error)) from None
    if parts.scheme in ("", "file"):
        yield LocalFolder(Path(unquote(parts.path)))
    elif parts.scheme == "sftp":
        with _open_sftp(parts, given) as location:
            yield location
    elif parts.scheme in ("ftp", "ftps"):
        with _open_ftp(parts, given) as location:
            yield location
    else:
        yield _open_s3(parts, given)


def check_url(url: str) -> None:
    """Make sure that a URL is one of ours and holds no password.

    Raises:
        ValueError: it is not; the message says what is wrong with it.
    """
    parts = urlsplit(url)
    if parts.scheme == "" and not url.startswith("/"):
        raise ValueError(f"{url!r} is neither an absolute path nor a URL")
    if parts.scheme not in ("", *SCHEMES):
        raise ValueError(f"{parts.scheme}:// is unknown; there are {', '.join(SCHEMES)}")
    if parts.password is not None:
        raise ValueError(
            "a password does not belong into a URL: name the environment variable that holds it"
            " under `credentials`"
        )
    if parts.scheme not in ("", "file") and not parts.hostname:
        raise ValueError(f"{url!r} names no host or bucket")


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.scheme else parts.path


class LocalFolder:
    """A folder of this machine, or one that is mounted."""

    is_parallel = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliveries(self) -> Iterator[Delivery]:
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # taken away since it was listed
                        if (found := _regular_file(entry.name, entry)) is not None:
                            yield found
        except OSError as error:
            raise UnreachableError(
                error.errno, f"the folder {self._folder} cannot be read: {error.strerror}"
            ) from None

    def look_at(self, name: str) -> Delivery:
        return _delivery(name, (self._folder / name).stat())

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with (self._folder / name).open("rb", buffering=0) as stream:
            yield cast(BinaryIO, stream)

    def describe(self, name: str) -> str:
        return os.fspath(self._folder / name)

    def hold(self, delivery: Delivery) -> Delivery:
        held = self._folder / delivery.held_name
        if delivery.name != delivery.held_name:
            if os.path.lexists(held):
                raise _another_is_held(os.fspath(held))
            (self._folder / delivery.name).rename(held)
        return self.look_at(delivery.held_name)

    def remove(self, delivery: Delivery) -> None:
        (self._folder / delivery.name).unlink()

    def move(self, held: Delivery) -> None:
        target = self._folder / MOVED_TO
        target.mkdir(exist_ok=True)
        name = _free_name(held, lambda each: os.path.lexists(target / each))
        (self._folder / held.name).rename(target / name)


def _regular_file(name: str, entry: os.DirEntry[str]) -> Delivery | None:
    """A file of a listing; a link to nothing is one, so that its reading says what is wrong."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        status = entry.stat(follow_symlinks=False)
        return _delivery(name, status) if stat.S_ISLNK(status.st_mode) else None
    return _delivery(name, status) if stat.S_ISREG(status.st_mode) else None


def _delivery(name: str, status: os.stat_result) -> Delivery:
    # Whole microseconds, as PostgreSQL keeps them: a float of seconds would not compare equal.
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    modified_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return Delivery(name, status.st_size, modified_at)


class SftpFolder:
    """A folder of an SFTP server. The server must be one of the user's ``known_hosts``."""

    is_parallel = False

    def __init__(self, client: paramiko.SFTPClient, folder: str, shown: str) -> None:
        self._client, self._folder, self._shown = client, folder, shown

    def deliveries(self) -> Iterator[Delivery]:
        with _listing(self._shown):
            for entry in self._client.listdir_iter(self._folder):
                if stat.S_ISREG(entry.st_mode or 0):
                    yield self._delivery(entry.filename, entry)

    def look_at(self, name: str) -> Delivery:
        with _reaching(self.describe(name)):
            return self._delivery(name, self._client.stat(posixpath.join(self._folder, name)))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with _reaching(self.describe(name)):
            path = posixpath.join(self._folder, name)
            with self._client.open(path, "rb", bufsize=1 << 20) as stream:
                # Requests for the whole file go out at once: no waiting for every answer.
                stream.prefetch(self._client.stat(path).st_size)
                yield cast(BinaryIO, stream)

    def describe(self, name: str) -> str:
        return f"{self._shown.rstrip('/')}/{name}"

    def hold(self, delivery: Delivery) -> Delivery:
        with _reaching(self.describe(delivery.name)):
            if delivery.name != delivery.held_name:
                held = posixpath.join(self._folder, delivery.held_name)
                if self._has(held):
                    raise _another_is_held(self.describe(delivery.held_name))
                self._client.rename(posixpath.join(self._folder, delivery.name), held)
        return self.look_at(delivery.held_name)

    def remove(self, delivery: Delivery) -> None:
        with _reaching(self.describe(delivery.name)):
            self._client.remove(posixpath.join(self._folder, delivery.name))

    def move(self, held: Delivery) -> None:
        with _reaching(self.describe(held.name)):
            target = posixpath.join(self._folder, MOVED_TO)
            if not self._has(target):
                self._client.mkdir(target)
            name = _free_name(held, lambda each: self._has(posixpath.join(target, each)))
            self._client.rename(
                posixpath.join(self._folder, held.name), posixpath.join(target, name)
            )

    def _has(self, path: str) -> bool:
        try:
            self._client.stat(path)
        except FileNotFoundError:
            return False
        return True

    @staticmethod
    def _delivery(name: str, entry: paramiko.SFTPAttributes) -> Delivery:
        modified_at = datetime.fromtimestamp(entry.st_mtime or 0, UTC)
        return Delivery(name, entry.st_size or 0, modified_at)


@contextlib.contextmanager
def _open_sftp(parts: SplitResult, given: dict[str, str]) -> Iterator[SftpFolder]:
    import paramiko  # noqa: PLC0415 - only these sources need it

    shown = _shown(parts)
    with contextlib.closing(paramiko.SSHClient()) as client, _reaching(shown):
        # A host that is not known is refused: a stranger could pass us files, and get our password.
        client.load_system_host_keys(given.get("known_hosts_file"))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        key_file = given.get("private_key_file")
        client.connect(
            parts.hostname or "", parts.port or 22, given.get("user") or parts.username,
            given.get("password"), key_filename=key_file, timeout=TIMEOUT_S,
            banner_timeout=TIMEOUT_S, auth_timeout=TIMEOUT_S, channel_timeout=TIMEOUT_S,
            look_for_keys=key_file is None and "password" not in given,
            allow_agent=key_file is None and "password" not in given,
        )  # fmt: skip
        sftp = client.open_sftp()
        channel = sftp.get_channel()
        if channel is not None:
            channel.settimeout(TIMEOUT_S)
        yield SftpFolder(sftp, unquote(parts.path) or ".", shown)


class FtpFolder:
    """A folder of an FTP server."""

    is_parallel = False

    def __init__(self, client: ftplib.FTP, folder: str, shown: str) -> None:
        self._client, self._folder, self._shown = client, folder, shown

    def deliveries(self) -> Iterator[Delivery]:
        with _listing(self._shown):
            try:
                entries = list(self._client.mlsd(self._folder, ["type", "size", "modify"]))
            except ftplib.error_perm:  # an old server, without RFC 3659's listing
                yield from self._named()
                return
        for name, facts in entries:
            if facts.get("type") == "file" and "size" in facts and "modify" in facts:
                yield Delivery(name, int(facts["size"]), _ftp_time(facts["modify"]))

    def _named(self) -> Iterator[Delivery]:
        with _listing(self._shown):
            for path in self._client.nlst(self._folder):
                with contextlib.suppress(PermissionError):  # a folder has neither size nor time
                    yield self.look_at(posixpath.basename(path))

    def look_at(self, name: str) -> Delivery:
        path = posixpath.join(self._folder, name)
        with _reaching(self.describe(name)):
            self._client.voidcmd("TYPE I")  # the size is that of the octets, not of lines
            try:
                size = self._client.size(path)
                answer = self._client.voidcmd(f"MDTM {path}")
            except ftplib.error_perm as error:
                raise PermissionError(str(error)) from None
        return Delivery(name, size or 0, _ftp_time(answer.split()[1]))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with _reaching(self.describe(name)):
            self._client.voidcmd("TYPE I")  # a listing leaves it at text, which changes octets
            try:
                connection = self._client.transfercmd(f"RETR {posixpath.join(self._folder, name)}")
            except ftplib.error_perm as error:
                raise PermissionError(str(error)) from None
            with connection, connection.makefile("rb") as stream:
                yield cast(BinaryIO, stream)
            self._client.voidresp()  # says whether the file was sent to its end

    def describe(self, name: str) -> str:
        return f"{self._shown.rstrip('/')}/{name}"

    def hold(self, delivery: Delivery) -> Delivery:
        with _reaching(self.describe(delivery.name)), _permitted():
            if delivery.name != delivery.held_name:
                held = posixpath.join(self._folder, delivery.held_name)
                if self._has(held):
                    raise _another_is_held(self.describe(delivery.held_name))
                self._client.rename(posixpath.join(self._folder, delivery.name), held)
        return self.look_at(delivery.held_name)

    def remove(self, delivery: Delivery) -> None:
        with _reaching(self.describe(delivery.name)), _permitted():
            self._client.delete(posixpath.join(self._folder, delivery.name))

    def move(self, held: Delivery) -> None:
        target = posixpath.join(self._folder, MOVED_TO)
        with _reaching(self.describe(held.name)), _permitted():
            with contextlib.suppress(ftplib.error_perm):  # it is there already
                self._client.mkd(target)
            name = _free_name(held, lambda each: self._has(posixpath.join(target, each)))
            self._client.rename(
                posixpath.join(self._folder, held.name), posixpath.join(target, name)
            )

    def _has(self, path: str) -> bool:
        self._client.voidcmd("TYPE I")  # some servers tell no size of texts
        try:
            self._client.size(path)
        except ftplib.error_perm as error:
            if not str(error).startswith("550"):  # what is neither there nor absent, is not known
                raise
            return False
        return True


@contextlib.contextmanager
def _permitted() -> Iterator[None]:
    """Of a refusal, FTP does not say whether the file is gone or may not be touched."""
    try:
        yield
    except ftplib.error_perm as error:
        raise PermissionError(str(error)) from None


def _ftp_time(text: str) -> datetime:
    """A time of RFC 3659, 2.3: UTC, with or without a fraction of a second."""
    whole, _, fraction = text.partition(".")
    moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return moment.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction else moment


@contextlib.contextmanager
def _open_ftp(parts: SplitResult, given: dict[str, str]) -> Iterator[FtpFolder]:
    shown = _shown(parts)
    client: ftplib.FTP
    if parts.scheme == "ftps":
        context = ssl.create_default_context()
        client = ftplib.FTP_TLS(context=context, timeout=TIMEOUT_S)  # noqa: S321 - it is encrypted
    else:
        client = ftplib.FTP(timeout=TIMEOUT_S)  # noqa: S321 - what old switches speak
    try:
        with _reaching(shown):
            client.connect(parts.hostname or "", parts.port or 21)
            client.login(given.get("user") or parts.username or "", given.get("password", ""))
            if isinstance(client, ftplib.FTP_TLS):
                client.prot_p()  # the files are encrypted as well, not only the commands
        yield FtpFolder(client, unquote(parts.path) or "/", shown)
    finally:
        client.close()


class S3Folder:
    """The objects of a bucket below one prefix."""

    is_parallel = True

    def __init__(self, store: arrow_fs.S3FileSystem, folder: str) -> None:
        self._store, self._folder = store, folder

    def deliveries(self) -> Iterator[Delivery]:
        bucket = self._folder.partition("/")[0]
        with _listing(f"s3://{self._folder}"):
            if self._store.get_file_info(bucket).type == arrow_fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket {bucket}")
            # A prefix without an object does not exist: that is no more than an empty folder.
            selector = arrow_fs.FileSelector(self._folder, allow_not_found=True)
            entries = self._store.get_file_info(selector)
        for entry in entries:
            if entry.type == arrow_fs.FileType.File:
                yield self._delivery(entry)

    def look_at(self, name: str) -> Delivery:
        with _reaching(self.describe(name)):
            entry = self._store.get_file_info(f"{self._folder}/{name}")
        if entry.type != arrow_fs.FileType.File:
            raise FileNotFoundError(f"{self.describe(name)} is gone")
        return self._delivery(entry)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with (
            _reaching(self.describe(name)),
            self._store.open_input_stream(f"{self._folder}/{name}") as stream,
        ):
            yield cast(BinaryIO, stream)

    def describe(self, name: str) -> str:
        return f"s3://{self._folder}/{name}"

    def hold(self, delivery: Delivery) -> Delivery:
        return self.look_at(delivery.name)

    def remove(self, delivery: Delivery) -> None:
        with _reaching(self.describe(delivery.name)):
            if self.look_at(delivery.name) != delivery:
                raise FileNotFoundError(f"{self.describe(delivery.name)} is another by now")
            self._store.delete_file(f"{self._folder}/{delivery.name}")

    def move(self, held: Delivery) -> None:
        target = f"{self._folder}/{MOVED_TO}"
        with _reaching(self.describe(held.name)):
            name = _free_name(held, lambda each: self._is_taken(f"{target}/{each}", held))
            self._store.copy_file(f"{self._folder}/{held.name}", f"{target}/{name}")
        self.remove(held)

    def _is_taken(self, path: str, held: Delivery) -> bool:
        """Whether something else than the copy of a move that was killed has a name."""
        there = self._store.get_file_info(path)
        if there.type == arrow_fs.FileType.NotFound:
            return False
        if there.type != arrow_fs.FileType.File:
            return True
        copied = self._delivery(there)
        return copied.size != held.size or copied.modified_at < held.modified_at

    @staticmethod
    def _delivery(entry: arrow_fs.FileInfo) -> Delivery:
        seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)
        modified_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
        return Delivery(entry.base_name, entry.size, modified_at)


def _open_s3(parts: SplitResult, given: dict[str, str]) -> S3Folder:
    """Bucket and prefix; ``?endpoint=host:port&scheme=http&region=…`` for a store of one's own."""
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    with _reaching(_shown(parts)):
        store = arrow_fs.S3FileSystem(
            access_key=given.get("access_key"), secret_key=given.get("secret_key"),
            session_token=given.get("session_token"), region=query.get("region"),
            endpoint_override=query.get("endpoint"), scheme=query.get("scheme", "https"),
            connect_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S,
            retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=2),
        )  # fmt: skip
    return S3Folder(store, f"{parts.netloc}{unquote(parts.path)}".rstrip("/"))


@contextlib.contextmanager
def _reaching(shown: str) -> Iterator[None]:
    """Turn what the protocols' libraries raise into `UnreachableError`.

    A file that is gone or may not be read is that file's matter: those errors stay as they are.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, PermissionError, UnreachableError):
        raise
    except (OSError, EOFError, ValueError, ftplib.Error, pa.ArrowException) as error:
        raise _unreachable(shown, error) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "paramiko":
            raise _unreachable(shown, error) from None
        raise


@contextlib.contextmanager
def _listing(shown: str) -> Iterator[None]:
    """The same for a folder as a whole: if that is gone or closed, nothing can be fetched."""
    try:
        with _reaching(shown):
            yield
    except (FileNotFoundError, PermissionError) as error:
        raise _unreachable(shown, error) from None


def _unreachable(shown: str, error: Exception) -> UnreachableError:
    reached = UnreachableError(f"{shown}: {str(error) or type(error).__name__}")
    # What our own disk lacks has to be seen as that by whoever copies a file.
    reached.errno = error.errno if isinstance(error, OSError) else None
    return reached
