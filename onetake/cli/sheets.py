"""What the CSV files of several verbs share."""

from pathlib import Path

import typer


def cell(text: str | None) -> str:
    """A caller's text as a cell that no spreadsheet takes for a formula; empty for none."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text or ""


def refuse_one_file(csv_file: Path | None, option: str, file: Path | None) -> None:
    """Refuse a second file that is the CSV file again, which would be lost, or stdout, which is for CSV alone."""
    if str(file) == "-":
        raise typer.BadParameter(f"{option} names a file: only --csv writes to stdout.")
    if csv_file is not None and file is not None and csv_file.resolve() == file.resolve():
        raise typer.BadParameter(f"--csv and {option} name one file: give each its own.")
