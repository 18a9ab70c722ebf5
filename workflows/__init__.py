"""The Temporal workflows: deterministic code, without network, clock or environment."""
