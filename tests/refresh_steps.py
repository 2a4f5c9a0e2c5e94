"""The steps of a refresh in their order, and a way to break in behind one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from usage.models import RefreshRun, UsageState
from usage.services import periods, repair, sealing
from usage.services import refresh as refreshing

# By the function that carries a step out, and a word of the fields that it saves if it saves many.
BEFORE_COMMIT: dict[str, tuple[Any, str, str]] = {
    "day announced": (sealing, "move_forward", ""),
    "fence drawn": (sealing, "draw_fence", ""),
    "locks taken": (refreshing, "begin_totals", ""),
    "late keys repaired": (repair, "repair_late_keys", ""),
    "day sealed": (sealing, "seal", ""),
    "watermark and as_of set": (UsageState, "save", "as_of"),
    "view refreshed": (refreshing, "_refresh_open_view", ""),
    "period totals kept": (periods, "apply_changes", ""),
    "view remembered": (UsageState, "save", "open_digest"),
    "before commit": (RefreshRun, "save", "as_of"),
}
COMMITTED = "committed"
STEPS = {**BEFORE_COMMIT, COMMITTED: (refreshing, "_refresh", "")}


@contextmanager
def after(step: str, act: Callable[[Any], None]) -> Iterator[None]:
    """Call `act` with what the step answered each time that one is done."""
    owner, name, saved = STEPS[step]
    original = getattr(owner, name)

    def work_and_act(*arguments: Any, **options: Any) -> Any:
        answer = original(*arguments, **options)
        if not saved or saved in options.get("update_fields", ()):
            act(answer)
        return answer

    with patch.object(owner, name, work_and_act):
        yield
