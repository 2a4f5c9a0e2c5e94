"""Directories and secrets of the embedded servers, and the account that they run as."""

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

# The longest path of a unix socket: 107 bytes on Linux, 103 on macOS and the BSDs.
LONGEST_SOCKET_PATH = 103
SOCKET_NAME = ".s.PGSQL.5432"
# The server trusts every process that can open its socket, so no other program uses this account.
ACCOUNT = "usage-servers"


def server_account(data: Path | None = None) -> Account | None:
    """Return the account for the servers, None for the current one.

    For root this is the owner of the data, or an account that is made for the servers alone. Raises
    LauncherError if that account cannot be made.
    """
    if os.geteuid() != 0:
        return None
    if data is not None and data.exists() and not _is_shared(data.stat().st_uid):
        return Account(data.stat().st_uid, data.stat().st_gid)
    fault = ""
    # useradd fails while another useradd runs, which may make the same account.
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
    """Return whether other programs run as this account too."""
    try:
        return pwd.getpwuid(uid).pw_name in {"root", "nobody"}
    except KeyError:
        return False


def _make_account() -> str:
    """Make the account of the servers; return the error message, empty on success."""
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
    """Return whether the account can open files in a directory."""
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
    """Return the directory for lasting data: .local, or one below /var/lib.

    The account of the servers cannot enter a tree below /root.
    """
    local.mkdir(exist_ok=True)
    if can_enter(local, server_account()):
        return local
    tree = hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
    place = Path("/var/lib") / f"usage-{tree}"
    place.mkdir(mode=0o755, exist_ok=True)
    if not can_enter(place, server_account()):
        raise LauncherError(
            f"The account of the servers can enter neither {local} nor {place}. Let it enter one of"
            " them, or set DATABASE_URL and REDIS_URL."
        )
    pointer = local / "place"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(place)
    return place


def passing_place(account: Account | None) -> Path:
    """Make an empty directory for throw-away servers; the caller removes it."""
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
    """Make a directory that only the account can enter, and return it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)
    return directory


def hand_over(tree: Path, account: Account | None) -> None:
    """Make the account the owner of a whole tree, if another account is.

    Links are not followed: the earlier owner may place one that leads out of the tree.
    """
    if account is None or tree.stat().st_uid == account.uid:
        return
    give(tree, account)
    for _, directories, files, handle in os.fwalk(tree):
        for name in (*directories, *files):
            os.chown(name, account.uid, account.gid, dir_fd=handle, follow_symlinks=False)


def fits_socket(directory: Path) -> bool:
    """Return whether the path of a socket in this directory is short enough."""
    return len(os.fsencode(directory / SOCKET_NAME)) <= LONGEST_SOCKET_PATH


def socket_directory(place: Path, account: Account | None) -> Path:
    """Return a private directory for the socket: in the place, or a short one linked from it."""
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
    """Return the secret in a private file; make one if it has fewer than `least` characters."""
    if path.exists() and len(kept := path.read_text().strip()) >= least:
        path.chmod(0o600)
        return kept
    return keep(path, secrets.token_urlsafe(48))


def keep(path: Path, text: str) -> str:
    """Write a private file atomically and return its text."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    draft.rename(path)
    return text
