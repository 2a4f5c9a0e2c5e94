"""One bin/serve a tree: a lock that the system gives back however its holder ends."""

import fcntl
from pathlib import Path
from typing import IO


class AlreadyRunsError(Exception):
    """Another bin/serve runs here; the message says where it answers."""


class Instance:
    """Holds the lock of a .local directory; its file says at which address the holder answers."""

    def __init__(self, local: Path) -> None:
        self.file: IO[str] = (local / "serve.lock").open("a+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.file.seek(0)
            told = self.file.read().strip() or "is starting"
            self.file.close()
            raise AlreadyRunsError(f"Another bin/serve {told}.") from error
        self.tell("is starting")

    def tell(self, what: str) -> None:
        """What a second bin/serve will say of this one."""
        self.file.truncate(0)
        self.file.write(what + "\n")
        self.file.flush()
