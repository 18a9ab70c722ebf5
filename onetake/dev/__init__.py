"""Development and tests only: servers on this machine, simulated vendors, the conformance kit and the demo.

Nothing that runs in production imports this package.
"""
