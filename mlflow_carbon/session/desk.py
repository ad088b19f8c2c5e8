"""Where a session is stored from: its first and last job, and the care for its journal in between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.live import Session
    from mlflow_carbon.session.publisher import Publisher
    from mlflow_carbon.session.surroundings import Surroundings
    from mlflow_carbon.worker import Worker

__all__ = ["Desk"]

_KEEP_S = 5.0  # how much of the journal a power cut may take


class Desk:
    """Stores one session in the background.

    The publisher is made when it is first asked for, since its imports belong in the background too.

    Args:
        session: What is measured.
        sink: Tells where it is stored; None: nowhere. Asked in the background, as the publisher is made.
        surroundings: Grid, environment and recovery.
        worker: The thread that stores it.
    """

    def __init__(
        self,
        session: Session,
        sink: Callable[[], Sink | None],
        *,
        surroundings: Surroundings,
        worker: Worker,
    ) -> None:
        self.session = session
        self._sink = sink
        self._surroundings = surroundings
        self._worker = worker
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None

    def publisher(self) -> Publisher:
        """The one publisher of the session."""
        with self._lock:
            if self._publisher is None:
                from mlflow_carbon.session.publisher import Publisher

                self._publisher = Publisher(
                    self.session, self._sink(), surroundings=self._surroundings, worker=self._worker
                )
            return self._publisher

    def begin(self) -> None:
        """First job of a session."""
        self.publisher().begin()

    def keep(self, keeper: Worker) -> None:
        """Have the disk keep the journal, again and again while the session lasts.

        Args:
            keeper: A thread of its own: neither a store that hangs may delay this, nor this the readings.
        """
        is_over = self.session.end_ns is not None
        self.session.journal.sync()
        if not is_over:
            keeper.submit(lambda: self.keep(keeper), delay_s=_KEEP_S)

    def finish(self, end_status: str) -> None:
        """Last job of a session; a status ends the MLflow run too."""
        publisher = self.publisher()
        if end_status:
            publisher.end_run_as(end_status)
        publisher.finish()
