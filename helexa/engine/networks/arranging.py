"""Layers laid out for a device side by side, each by one thread, while those after them are read.

The threads of one product wait for each other at its end, by spinning; a layer's products are over in milliseconds, and
those who read want the cores as well. Measured on two cores beside two other busy processes, four fifths of a load's
processor time were spent so. Threads that have a layer each wait for nobody.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import torch

_T = TypeVar("_T")
HELD: Final = 256 << 20
"""Bytes of layers that are laid out at the same time, if they are several: each is in memory twice for that long."""


def at_once(layers: Sequence[torch.nn.Module], device: torch.device) -> int:
    """How many layers of a model, whose weights may still be missing, are best laid out at a time.

    Of large ones fewer, each with several of torch's threads, whose waiting is little then. A GPU does one after the
    other anyway.
    """
    if device.type != "cpu":
        return 1
    sizes = [sum(each.numel() * each.element_size() for each in layer.parameters()) for layer in layers]
    return max(1, min(torch.get_num_threads(), HELD // max([1, *sizes])))


class Turns:
    """Makes calls in several threads.

    A context manager: at its end no call is under way, and torch has the threads that it had.

    Args:
        most: calls at the same time; 1 makes each where it is asked for, with all of torch's threads.
    """

    def __init__(self, most: int) -> None:
        self._most, self._threads = most, torch.get_num_threads()
        self._inference = torch.is_inference_mode_enabled()  # each thread has its own
        self._pool = ThreadPoolExecutor(most, "arrange", initializer=self._share_threads)
        self._running: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._running.clear()
        if self._most > 1:
            torch.set_num_threads(self._threads)  # what one thread sets is what threads made later begin with

    def ask(self, call: Callable[..., _T], *arguments: Any) -> Future[_T]:
        """Begin a call, once fewer than ``most`` are under way; waits for that.

        Raises:
            Exception: what a call before has raised.
        """
        if self._most == 1:
            done: Future[_T] = Future()
            done.set_result(call(*arguments))
            return done
        while len(self._running) >= self._most:
            self._running.popleft().result()
        begun = self._pool.submit(self._call, call, arguments)
        self._running.append(begun)
        return begun

    def _share_threads(self) -> None:
        torch.set_num_threads(max(1, self._threads // self._most))

    def _call(self, call: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        with torch.inference_mode(self._inference):
            return call(*arguments)
