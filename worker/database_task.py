"""Tasks that run only for the database that sent them.

Two databases may share a broker, so each database has its own queue, and each message has the key
of the database that its sender was connected to. A worker refuses a message with another key than
that of the database it is connected to now.
"""

import logging
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

logger = logging.getLogger(__name__)


class DatabaseTask(Task):
    """A task that runs for the database that its message names, and for no other."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Raise Reject, which drops the message, if it is from another database."""
        from usage.database import identity

        if self.request.is_eager:
            return  # no message: the caller runs the task itself
        own = identity.read("default")
        sent_by = getattr(self.request, identity.HEADER, None)
        if own is None or sent_by != own.key:
            logger.error(
                "Refused %s of the database %s: this worker serves the database %s of the key %s. "
                "Two databases may share a broker; check DATABASE_URL and REDIS_URL of the sender.",
                self.name,
                sent_by,
                own and own.database,
                own and own.key,
            )
            raise Reject("of another database", requeue=False)


def use_own_queue(app: "Celery[Any]") -> str:
    """Set the queue of the worker or beat to that of its database; return the database's key.

    Waits while the database is away or not migrated, since neither can work without it.
    """
    from usage.database import identity

    known = identity.read_patiently()
    app.conf.task_default_queue = identity.queue_of(known)
    return known.key
