"""The steps with effects: each takes a contract, calls a port and lets the failure speak. One file a phase."""
