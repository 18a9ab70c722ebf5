"""Deterministic code only: no network, no clock, no environment."""
