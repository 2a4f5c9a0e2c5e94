"""The steps of a refresh, in order, and a hook that runs after one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from usage.models import RefreshRun, UsageState
from usage.services import periods, repair, sealing
from usage.services import refresh as refreshing

# Each step has the function that performs it; for save(), also a field that this call saves.
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
    """Call `act` with the result of the step, each time after the step."""
    owner, name, saved = STEPS[step]
    original = getattr(owner, name)

    def work_and_act(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if not saved or saved in options.get("update_fields", ()):
            act(result)
        return result

    with patch.object(owner, name, work_and_act):
        yield
