"""Temporal: the client and its encryption, starts of generations and recoveries, the reconciler's schedule, and replays
of histories on the current code."""
