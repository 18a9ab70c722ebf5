"""Temporal: one client and converter, starts and recoveries, the reconciler's schedule, and histories held against
today's code."""
