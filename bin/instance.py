"""The lock that allows one bin/serve a tree; the kernel releases it when its holder ends."""

import fcntl
from pathlib import Path
from typing import IO


class AlreadyRunsError(Exception):
    """Another bin/serve runs in this tree; the message has its address."""


class Instance:
    """The lock of a .local directory; its file has the state and address of the holder."""

    def __init__(self, local: Path) -> None:
        self.file: IO[str] = (local / "serve.lock").open("a+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.file.seek(0)
            state = self.file.read().strip() or "is starting"
            self.file.close()
            raise AlreadyRunsError(f"Another bin/serve {state}.") from error
        self.write_state("is starting")

    def write_state(self, state: str) -> None:
        """Write the state that a second bin/serve prints."""
        self.file.truncate(0)
        self.file.write(state + "\n")
        self.file.flush()
