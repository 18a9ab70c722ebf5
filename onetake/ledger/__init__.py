"""PostgreSQL: the adapters for generations, holds, submissions, callbacks, budgets and the state of vendors.

Every change is one statement, so that it commits whole or not at all, whichever process dies. This package sends
nothing to a vendor and never decides what a generation does next.
"""

from onetake.ledger.budgets import BudgetBalance, Budgets
from onetake.ledger.callbacks import Callbacks, Wake
from onetake.ledger.database import Database
from onetake.ledger.epochs import Epochs
from onetake.ledger.generations import AcceptedRow, PostgresGenerations
from onetake.ledger.holds import Entry, PostgresLedger
from onetake.ledger.pacing import CallbackRecord, PostgresPacing
from onetake.ledger.quotes import PostgresQuotes
from onetake.ledger.submissions import PostgresSubmissions
from onetake.ledger.terms import PostgresTerms

__all__ = [
    "AcceptedRow",
    "BudgetBalance",
    "Budgets",
    "CallbackRecord",
    "Callbacks",
    "Database",
    "Entry",
    "Epochs",
    "PostgresGenerations",
    "PostgresLedger",
    "PostgresPacing",
    "PostgresQuotes",
    "PostgresSubmissions",
    "PostgresTerms",
    "Wake",
]
