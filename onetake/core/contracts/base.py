"""What every message is: frozen, and deaf to fields that it does not know."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A part of a message, or of a document for the outside."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Message(Value):
    """A message between our own parts."""

    version: int = 1
