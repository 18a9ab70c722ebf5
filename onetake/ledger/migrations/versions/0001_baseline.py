"""The first schema. The text beside this file is a copy that never changes again, whatever becomes of `schema/*.sql`.

Every later change is a migration of its own, with `schema/*.sql` changed to what comes out.
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    text = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.execute(text.replace(":", r"\:"))  # or a colon before a word would name a parameter
