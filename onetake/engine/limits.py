"""How long one call of the Temporal service may take, whoever makes it."""

from datetime import timedelta
from typing import Final

RPC_LIMIT: Final = timedelta(seconds=10)
