"""Onetake: each generation is submitted once, paid once and never lost."""
