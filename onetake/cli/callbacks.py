"""What `onetake vendors list` and `onetake doctor` say of the vendors' callbacks."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from onetake.core.settings import Settings
from onetake.ledger.pacing import CallbackRecord

LATE_CALLBACK: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class CallbackStanding:
    """How the callbacks of one vendor stand. `since`: from when on they arrive, or have stopped. `unannounced`: ends
    that our own reads found and no callback told of, since the last callback that told of one."""

    state: Literal["arriving", "stopped", "unseen", "not_configured", "not_offered"]
    since: datetime | None = None
    last: datetime | None = None
    unannounced: int = 0

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self) | {"since": _second(self.since), "last": _second(self.last)}

    @property
    def text(self) -> str:
        match self.state:
            case "arriving":
                return f"arriving since {_second(self.since)}"
            case "stopped":
                return f"stopped: the last at {_second(self.last)}, {_ends(self.unannounced)} without one since"
            case "unseen":
                return f"none seen, {_ends(self.unannounced)} without one" if self.unannounced else "none seen"
            case "not_configured":
                return "not configured: ONETAKE_CALLBACK_BASE_URL is not set"
            case "not_offered":
                return "it sends none"

    def is_overdue(self, now: datetime, time_scale: float) -> bool:
        """Whether a callback is missing that can no longer be only a little later than our own read."""
        return self.unannounced > 0 and self.since is not None and self.since <= now - LATE_CALLBACK * time_scale


def standing(settings: Settings, record: CallbackRecord, *, offered: bool) -> CallbackStanding:
    """How a vendor's callbacks stand, where it has any and this deployment gives it an address."""
    if not offered:
        return CallbackStanding("not_offered")
    if not settings.callback_base_url:
        return CallbackStanding("not_configured")
    if record.arriving_since:
        return CallbackStanding("arriving", record.arriving_since, record.announced_at)
    state = "stopped" if record.announced_at else "unseen"
    return CallbackStanding(state, record.unannounced_since, record.announced_at, record.unannounced)


def _ends(number: int) -> str:
    return "1 job ended" if number == 1 else f"{number} jobs ended"


def _second(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
