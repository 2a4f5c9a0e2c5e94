"""Messages of one database stay with it: a queue of its own, and its key in each message.

Two databases may share a broker. The key of a message is that of the database that the sender was
connected to; a worker refuses a message whose key is not that of its own database now.
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
        """Raises Reject, which drops the message, when it is of another database."""
        from usage.services import identity

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
    """Let the worker or beat use the queue of its database; returns the key of the database.

    Waits while the database is away or not migrated: without it nothing could be done.
    """
    from usage.services import identity

    known = identity.read_patiently()
    app.conf.task_default_queue = identity.queue_of(known)
    return known.key
