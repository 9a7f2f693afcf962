"""A cache within a budget of bytes: what was not used for longest goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LeastRecentlyUsed(Generic[Key, Value]):
    """Values by key, made when they are asked for. Safe to use from many threads at once.

    Whoever got a value keeps it, even if it leaves the cache meanwhile. Two threads that ask for a missing value at
    once may both make it; one of the two is kept.
    """

    def __init__(
        self, budget: int, make: Callable[[Key], tuple[Value, int]], wanted: Callable[[Key], bool] = lambda key: True
    ) -> None:
        """``budget`` in bytes; ``make`` gives the value of a key and the bytes it takes.

        ``wanted`` says whether a key may be kept: of one that no longer is, a value is made for whoever asks and is
        not kept. It has to say no before :meth:`drop` is called: a value that is being made meanwhile is not kept.
        """
        self._budget = budget
        self._wanted = wanted
        self._make = make
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes of what is kept: never more than the budget."""
        return self._bytes

    def get(self, key: Key) -> Value:
        """The value of ``key``, from the cache or made now."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        value, size = self._make(key)  # outside the lock: making one must not hold up the others
        with self._lock:
            self._keep(key, value, size)
        return value

    def drop(self, key: Key) -> None:
        """Forgets ``key``; nothing happens if it is not kept."""
        with self._lock:
            _, size = self._kept.pop(key, (None, 0))
            self._bytes -= size

    def _keep(self, key: Key, value: Value, size: int) -> None:
        if key in self._kept or size > self._budget or not self._wanted(key):
            return
        while self._bytes + size > self._budget:  # room first: whoever reads the bytes never sees more than the budget
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
        self._kept[key] = (value, size)
        self._bytes += size
