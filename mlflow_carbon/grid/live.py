"""One live service at work: what the cache has, what must be asked, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.settle import newest
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import Window
from mlflow_carbon.grid.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.access import Access
    from mlflow_carbon.grid.contract import GridProvider

__all__ = ["PAST_S", "Live", "starts"]

PAST_S = 7 * 86_400
"""How much of the past is read to carry on, in seconds."""

_REVISED_S = 86_400  # live figures are revised for about a day after their slot; later ones are final


def starts(window: Window, slot_s: int) -> range:
    """Starts of the slots of a window, at least one."""
    first = int(window.start_s // slot_s) * slot_s
    return range(first, max(first + 1, math.ceil(window.end_s)), slot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One provider, asked about one place at one time."""

    provider: GridProvider
    place: str
    access: Access
    now_s: float

    def past(self, window: Window) -> dict[int, IntensitySlot]:
        """What the cache holds of the time before and in the window."""
        name, slot_s = self.provider.name, self.provider.slot_s
        start_s = min(window.start_s, self.now_s) - PAST_S
        found = self.access.cache.load(name, self.place, start_s, window.end_s)
        return {t: s for t, s in found.items() if t % slot_s == 0 and s.end_s - t == slot_s}

    def slots(
        self, window: Window, past: Mapping[int, IntensitySlot]
    ) -> tuple[dict[int, IntensitySlot], tuple[str, ...]]:
        """Slots of the window and what is to be said: from the cache, else fetched, else older ones."""
        slot_s = self.provider.slot_s
        cached = {t: s for t, s in past.items() if t > window.start_s - slot_s}
        wanted = starts(window, slot_s)
        open_ = [t for t in wanted if t not in cached or not self._is_fresh(cached[t])]
        if not open_:
            return {t: cached[t] for t in wanted}, ()
        # Only what is not final yet: a run of weeks does not ask for all its weeks again.
        missing = Window(start_s=max(window.start_s, open_[0]), end_s=max(window.end_s, open_[0] + 1))
        # Where the cache was lost, what was answered in this slot must be asked again.
        has_answers = any(self._in_this_slot(s) for s in past.values())
        fetched, notes, failed = self._ask(missing, has_answers=has_answers)
        if failed and any(t in cached and t not in fetched for t in open_):
            notes = (*notes, "earlier answers used")
        return newest(cached.values(), fetched.values()), notes

    def _is_fresh(self, slot: IntensitySlot) -> bool:
        """Whether the figure is final, or was fetched in the slot that is running now."""
        is_final = slot.kind == "actual" and (slot.fetched_s or 0.0) >= slot.end_s + _REVISED_S
        return is_final or self._in_this_slot(slot)

    def _in_this_slot(self, slot: IntensitySlot) -> bool:
        slot_s = self.provider.slot_s
        return slot.fetched_s is not None and slot.fetched_s // slot_s == self.now_s // slot_s

    def _ask(
        self, window: Window, *, has_answers: bool
    ) -> tuple[dict[int, IntensitySlot], tuple[str, ...], bool]:
        """Slots that the service gives, what it says, and whether it failed. Stops at the first fault."""
        ledger = Ledger(
            folder=self.access.cache.folder, source=self.provider.name, insists=self.access.insists
        )
        fetched: dict[int, IntensitySlot] = {}
        notes: list[str] = []
        failed = False
        try:
            requests = self.provider.request(self.place, window, self.now_s)
        except GridError as error:
            return {}, (str(error),), True
        for request in requests:
            if has_answers and ledger.is_answered(request, self.provider.slot_s, self.now_s):
                continue
            if why := ledger.why_not(request, self.now_s):
                notes, failed = [*notes, f"{self.provider.name}: {why}"], True
                continue
            try:
                answer = self.provider.parse(self.access.fetch(request), request)
            except GridError as error:
                ledger.failed(request, error, self.now_s)
                notes, failed = [*notes, str(error)], True
                if not error.is_refusal:
                    break
                continue
            ledger.succeeded(request, self.now_s)
            fetched = newest(fetched.values(), map(self._stamped, answer.slots))
            notes += [answer.note] if answer.note else []
        self.access.cache.save(self.provider.name, self.place, fetched.values())
        return fetched, tuple(notes), failed

    def _stamped(self, slot: IntensitySlot) -> IntensitySlot:
        """With who said it and when; what does not tell when it was issued was the newest at the time."""
        issued_s = slot.issued_s if slot.issued_s is not None else self.now_s
        return replace(slot, source=self.provider.name, issued_s=issued_s, fetched_s=self.now_s)
