"""When which question was asked, and when a service that fails may be asked again: the circuit breaker.

On disk beside the cache, one file a source, since runs are short, several may go on at a time, and a quota is
counted for all of them together. A file that cannot be read counts as absent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from mlflow_carbon.core.times import minute
from mlflow_carbon.grid.cache import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.errors import GridError
    from mlflow_carbon.grid.contract import Request

__all__ = ["Ledger"]

_DAY_S = 86_400.0
_FAULT_S = (60.0, 3600.0)  # first and longest pause after no answer or a bad one, doubling
_REFUSAL_S = (600.0, _DAY_S)  # the same after a refusal, which waiting will hardly change
_LONGEST_S = _DAY_S
_ALL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is remembered of the questions to one source.

    Attributes:
        folder: Where the cache is; None remembers nothing.
        source: Name of the provider.
        insists: Ask whatever has failed before; what comes of it is still written down.
    """

    folder: Path | None
    source: str
    insists: bool = False

    def is_answered(self, request: Request, slot_s: int, now_s: float) -> bool:
        """Whether this very question was answered in the slot that is running now."""
        asked = self._load()["asked"].get(request.url)
        return isinstance(asked, int | float) and asked // slot_s == now_s // slot_s

    def why_not(self, request: Request, now_s: float) -> str:
        """Why it must not be asked now, as a whole or for this kind of question; empty where it may."""
        if self.insists:
            return ""
        pauses = self._load()["pauses"]
        for key in (_ALL, _key(request)):
            pause = pauses.get(key)
            # After a clock was set back a pause may seem to last for years.
            if _is_pause(pause) and now_s < pause["until_s"] <= now_s + _LONGEST_S:
                return f"not asked again before {minute(pause['until_s'])}: {pause['why']}"
        return ""

    def succeeded(self, request: Request, now_s: float) -> None:
        """The question was answered: it need not be asked again in this slot, and the source works."""
        found = self._load()
        asked = {
            u: t
            for u, t in found["asked"].items()
            if isinstance(t, int | float) and now_s - _DAY_S < t <= now_s
        }
        pauses = {k: p for k, p in found["pauses"].items() if k not in {_ALL, _key(request)}}
        self._save({"asked": asked | {request.url: now_s}, "pauses": pauses})

    def failed(self, request: Request, error: GridError, now_s: float) -> None:
        """The question was not answered: leave the source in peace for a while, for longer each time."""
        found = self._load()
        key, (first_s, longest_s) = (_key(request), _REFUSAL_S) if error.is_refusal else (_ALL, _FAULT_S)
        known = found["pauses"].get(key)
        count = known["failures"] + 1 if _is_pause(known) else 1
        pause_s = max(min(first_s * 2 ** min(count - 1, 16), longest_s), min(error.retry_after_s, _LONGEST_S))
        found["pauses"][key] = {"failures": count, "until_s": now_s + pause_s, "why": str(error)[:500]}
        self._save(found)

    def _file(self) -> Path | None:
        return (
            None
            if self.folder is None
            else self.folder / re.sub(r"[^\w.-]", "-", self.source) / "ledger.json"
        )

    def _load(self) -> dict[str, dict[str, Any]]:
        file = self._file()
        try:
            content = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        except (OSError, ValueError, RecursionError):
            content = {}
        content = content if isinstance(content, dict) else {}
        return {
            name: content[name] if isinstance(content.get(name), dict) else {} for name in ("asked", "pauses")
        }

    def _save(self, content: dict[str, dict[str, Any]]) -> None:
        file = self._file()
        if file is not None:
            replace_file(file, content)


def _key(request: Request) -> str:
    return f"{request.what} {request.place}"


def _is_pause(value: Any) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(value, dict)
        and isinstance(value.get("failures"), int)
        and isinstance(value.get("until_s"), int | float)
        and isinstance(value.get("why"), str)
    )
