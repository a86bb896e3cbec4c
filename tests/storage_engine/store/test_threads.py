"""Work side by side: in order, with the first error, and without waiting for itself."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import pytest

from storage_engine.store.threads import side_by_side


@pytest.mark.parametrize("threads", [1, 2, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_results_come_in_the_order_of_the_items(count: int, threads: int) -> None:
    assert side_by_side(lambda item: item * 2, list(range(count)), threads=threads) == [2 * i for i in range(count)]


def test_items_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=60)
    side_by_side(lambda _: meeting.wait(), [1, 2, 3], threads=3)


def test_work_may_be_shared_out_again_by_all_who_do_it() -> None:
    def nested(depth: int) -> int:
        return 1 if depth == 0 else sum(side_by_side(nested, [depth - 1] * 5, threads=5))

    assert side_by_side(nested, [3] * 5, threads=5) == [125] * 5


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_is_raised_when_all_that_was_begun_has_ended(threads: int) -> None:
    class Stopped(BaseException):
        """No ordinary error."""

    def work(item: int) -> None:
        if item == 3:
            raise Stopped("item 3")

    with pytest.raises(Stopped, match="item 3"):
        side_by_side(work, list(range(50)), threads=threads)


def child(found: Any) -> None:
    """Works side by side in a forked process."""
    found.put(side_by_side(lambda item: item + 1, [1, 2, 3, 4], threads=4))


def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(lambda item: item, [1, 2, 3, 4], threads=4)
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    process = context.Process(target=child, args=(found,))
    process.start()
    assert found.get(timeout=60) == [2, 3, 4, 5]
    process.join()
