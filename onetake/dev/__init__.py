"""Development and tests only: servers on this machine, simulated vendors, the conformance kit, the demo, and the crash
points around the ports.

Production code never imports this package.
"""
