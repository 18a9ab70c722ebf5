"""The attempts of activities that this process has under way: what it waits for when it is asked to end."""

import time
from collections import Counter
from typing import Any, Final

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor


class UnderWay(Interceptor):
    """Counts attempts by the name of their activity. One per process, whose workers share it."""

    def __init__(self) -> None:
        self._attempts = Counter[str]()
        self._changed_s = time.monotonic()

    @property
    def names(self) -> list[str]:
        """The activities that have an attempt under way, sorted."""
        return sorted(+self._attempts)

    @property
    def idle_s(self) -> float:
        """For how long nothing has been under way; 0 while something is."""
        return 0.0 if self.names else time.monotonic() - self._changed_s

    def count(self, name: str, by: int) -> None:
        """So many more attempts of this activity, or fewer."""
        self._attempts[name] += by
        self._changed_s = time.monotonic()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Counted(next, self)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, under_way: UnderWay) -> None:  # noqa: A002
        super().__init__(next)
        self._under_way = under_way

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        name = activity.info().activity_type
        self._under_way.count(name, 1)
        try:
            return await super().execute_activity(input)
        finally:
            self._under_way.count(name, -1)


under_way: Final = UnderWay()
