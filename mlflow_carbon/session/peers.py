"""The other machines of the runs of this process: who has not come yet is looked for again, for a while."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.live import Session
    from mlflow_carbon.session.node_sink import NodeSink
    from mlflow_carbon.worker import Worker

__all__ = ["LOOK_S", "Peers"]

_logger = logging.getLogger(__name__)

LOOK_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses between looks: together less than the end of a process may take."""


class Peers:
    """Other machines of the runs that this process measures.

    Args:
        worker: The thread that looks for them.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._has_warned = False
        self._sinks: dict[Session, tuple[NodeSink, threading.Event]] = {}

    def view(self, session: Session, sink: Sink | None) -> Sink | None:
        """Where a session stores: its sink, or on one of several machines its own places in there."""
        spec = session.spec
        if spec.node is None or sink is None:
            return sink
        from mlflow_carbon.session.node_sink import NodeSink

        view = NodeSink(sink, spec.run_id, spec.node, detail=session.settings.detail)
        self._sinks[session] = view, threading.Event()
        return view

    def watch(self, session: Session) -> None:
        """After a session has been stored: the first machine goes on looking for the others."""
        if session not in self._sinks:
            return
        if session.stored and session.spec.node is not None and session.spec.node.is_first:
            self._look(session, LOOK_S)
        else:
            self._let_go(session)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the others are in or were looked for long enough; whether that is so."""
        deadline_s = time.monotonic() + timeout_s
        waits = [over for _, over in tuple(self._sinks.values())]
        return all(over.wait(max(0.0, deadline_s - time.monotonic())) for over in waits)

    def _look(self, session: Session, pauses_s: Sequence[float]) -> None:
        is_complete = False
        try:
            is_complete = self._sinks[session][0].add_up()
        except StoreError as error:
            _logger.debug("%s", error)
        finally:
            if is_complete:
                self._let_go(session)
            elif pauses_s:
                self._worker.submit(partial(self._look, session, pauses_s[1:]), delay_s=pauses_s[0])
            else:
                # Where only the first machine ever joins, a sweep would say it with every run.
                _logger.log(
                    logging.DEBUG if self._has_warned else logging.WARNING,
                    "run %s: figures of other machines have not come; the run says which are missing, "
                    "and they are added when they come",
                    session.spec.run_id,
                )
                self._has_warned = True
                self._let_go(session)

    def _let_go(self, session: Session) -> None:
        _, over = self._sinks.pop(session)
        over.set()
