"""Where the embedded servers keep their files, and the account that they run as."""

import contextlib
import hashlib
import os
import pwd
import secrets
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from bin.spawn import Account, LauncherError

# A unix socket's path: 107 bytes on Linux, 103 on macOS and the BSDs.
LONGEST_SOCKET_PATH = 103
SOCKET_NAME = ".s.PGSQL.5432"
# The server trusts every process that reaches its socket, so no other program may run as this one.
ACCOUNT = "usage-servers"


def server_account(data: Path | None = None) -> Account | None:
    """The account for the servers: None is our own; as root the owner of the data, or one that is
    made for the servers alone. Raises LauncherError where that can't be made."""
    if os.geteuid() != 0:
        return None
    if data is not None and data.exists() and not _is_shared(data.stat().st_uid):
        return Account(data.stat().st_uid, data.stat().st_gid)
    fault = ""
    # useradd refuses while another one runs; that one may make the same account.
    for pause in (0.0, 0.5, 1.0, 2.0, 4.0):
        time.sleep(pause)
        with contextlib.suppress(KeyError):
            own = pwd.getpwnam(ACCOUNT)
            return Account(own.pw_uid, own.pw_gid)
        fault = _make_account()
    raise LauncherError(
        f"PostgreSQL refuses to run as root and the account {ACCOUNT} can't be made: {fault}. "
        "Make it by hand, run as another user, or set DATABASE_URL."
    )


def _is_shared(uid: int) -> bool:
    """Whether others run processes as this account too."""
    try:
        return pwd.getpwuid(uid).pw_name in {"root", "nobody"}
    except KeyError:
        return False


def _make_account() -> str:
    """Make the account of the servers; returns what went wrong."""
    command = [
        *("useradd", "--system", "--user-group", "--no-create-home"),
        *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", ACCOUNT),
    ]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return made.stderr.strip()


def can_enter(directory: Path, account: Account | None) -> bool:
    """Whether the account may reach files in a directory."""
    if account is None:
        return True
    probe = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]
    return (
        subprocess.run(
            probe,
            cwd="/",
            capture_output=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        ).returncode
        == 0
    )


def lasting_place(local: Path) -> Path:
    """The directory for data that stays: .local, or one below /var/lib where root's isn't open.

    A tree below /root can't be entered by the account that PostgreSQL has to run as.
    """
    local.mkdir(exist_ok=True)
    if can_enter(local, server_account()):
        return local
    tree = hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
    place = Path("/var/lib") / f"usage-{tree}"
    place.mkdir(mode=0o755, exist_ok=True)
    if not can_enter(place, server_account()):
        raise LauncherError(f"The account of the database can enter neither {local} nor {place}.")
    pointer = local / "place"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(place)
    return place


def passing_place(account: Account | None) -> Path:
    """A new empty directory for servers that are thrown away; whoever asks removes it."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it private
        if not can_enter(Path(parent), account):
            continue
        place = Path(tempfile.mkdtemp(prefix="usage-", dir=parent)).resolve()
        if fits_socket(place / "socket"):
            give(place, account)
            return place
        place.rmdir()
    raise LauncherError("No temporary directory fits. Set TMPDIR to one with a short path.")


def give(directory: Path, account: Account | None) -> Path:
    """Make a directory that only the account may enter."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)
    return directory


def hand_over(tree: Path, account: Account | None) -> None:
    """Give a whole tree to the account, where it belongs to another one.

    Its owner may be at work in it meanwhile: no link leads out of it.
    """
    if account is None or tree.stat().st_uid == account.uid:
        return
    give(tree, account)
    for _, directories, files, handle in os.fwalk(tree):
        for name in (*directories, *files):
            os.chown(name, account.uid, account.gid, dir_fd=handle, follow_symlinks=False)


def fits_socket(directory: Path) -> bool:
    """Whether a socket in this directory has a path that the system can take."""
    return len(os.fsencode(directory / SOCKET_NAME)) <= LONGEST_SOCKET_PATH


def socket_directory(place: Path, account: Account | None) -> Path:
    """A private directory for the socket: in the place, or a short one that the place points to."""
    wanted = place / "socket"
    if fits_socket(wanted):
        return give(wanted, account)
    owner = account.uid if account else os.geteuid()
    if wanted.is_symlink():
        kept = wanted.readlink()
        if kept.exists() and not kept.is_symlink():
            found = kept.stat()
            if found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700:
                return kept
        wanted.unlink()
    made = passing_place(account)
    wanted.symlink_to(made)
    return made


def secret(path: Path, *, least: int = 1) -> str:
    """The secret kept in a file that only its owner may read; made when there is none of at least
    so many characters."""
    if path.exists() and len(kept := path.read_text().strip()) >= least:
        path.chmod(0o600)
        return kept
    return keep(path, secrets.token_urlsafe(48))


def keep(path: Path, text: str) -> str:
    """Write a file that only its owner may read, whole or not at all; returns the text."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    draft.rename(path)
    return text
