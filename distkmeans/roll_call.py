"""Who is still there when a rank is lost, and who tells of it.

A lost rank is noticed by its neighbours in a collective, while others still wait in it. So every rank answers from a
thread of its own, and one speaks for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

WATCH_S = 0.5
"""How often a rank looks whether the roll is called."""
ANSWER_S = 3.0
"""How long a rank has to answer."""
STORE_S = 10.0
"""How long the key-value store has to answer: it may be on the machine that is gone."""
LEAVE_S = 2.0
PREFIX = "distkmeans/roll"


@dataclass(frozen=True)
class RollCall:
    """The ranks of a job by its key-value store, which has ``set``, ``add`` and ``check``.

    holds_store: whether the store lives in this process.
    """

    store: Any
    rank: int
    size: int
    holds_store: bool = False
    left: threading.Event = field(default_factory=threading.Event)

    def attend(self) -> None:
        """Answer from a thread until this rank leaves."""
        threading.Thread(target=self._quietly, args=(self._answer,), daemon=True).start()

    def leave(self) -> None:
        """Use the store no more; who holds it stays until all have left, LEAVE_S at most."""
        self.left.set()
        last = threading.Thread(target=self._quietly, args=(self._leave,), daemon=True)
        last.start()
        last.join(LEAVE_S)

    def call(self, spokesman: bool) -> tuple[list[int], bool]:
        """The ranks that do not answer, and whether this one is to tell; at most ANSWER_S + STORE_S.

        Where the store does not answer either, no rank is known to be missing, and every ``spokesman`` tells.
        """
        found: list[tuple[list[int], bool]] = []
        caller = threading.Thread(target=self._quietly, args=(lambda: found.append(self._call()),), daemon=True)
        caller.start()
        caller.join(ANSWER_S + STORE_S)
        return found[0] if found else ([], spokesman)

    def _call(self) -> tuple[list[int], bool]:
        """Rank 0 tells if it knows of the loss, otherwise the first that called the roll; the others let it."""
        is_first = self.store.add(f"{PREFIX}/callers", 1) == 1
        self.store.set(self._name("caller", self.rank), "1")
        self.store.set(f"{PREFIX}/called", "1")
        self.store.set(self._name("answer", self.rank), "1")
        time.sleep(ANSWER_S)
        missing = [rank for rank in range(self.size) if not self.store.check([self._name("answer", rank)])]
        told = f"{PREFIX}/told"
        knows = self.rank == 0 or (is_first and not self.store.check([self._name("caller", 0)]))
        if knows and not self.store.check([told]):
            self.store.set(told, "1")
            return missing, True
        end = time.monotonic() + ANSWER_S + 1
        while not self.store.check([told]) and time.monotonic() < end:
            time.sleep(0.05)
        return missing, False

    def _answer(self) -> None:
        while not self.store.check([f"{PREFIX}/called"]):
            if self.left.wait(WATCH_S):
                return
        self.store.set(self._name("answer", self.rank), "1")

    def _leave(self) -> None:
        self.store.add(f"{PREFIX}/left", 1)
        while self.holds_store and self.store.add(f"{PREFIX}/left", 0) < self.size:
            time.sleep(0.01)

    def _quietly(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (RuntimeError, ValueError):  # the store is gone: so is the job
            return

    def _name(self, what: str, rank: int) -> str:
        return f"{PREFIX}/{what}/{rank}"
