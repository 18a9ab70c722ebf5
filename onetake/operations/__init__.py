"""Work on generations outside of their workflows: the reconciler's pass, and replays of what failed."""
