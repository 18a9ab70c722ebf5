"""What the CSV files of several verbs share."""


def cell(text: str | None) -> str:
    """A caller's text as a cell that no spreadsheet takes for a formula; empty for none."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text or ""
