"""The Temporal activities, one file for each step: each takes a message, calls ports, and raises what they raise."""
