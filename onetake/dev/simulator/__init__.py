"""The vendors, simulated faithfully, with a journal of what they received, accepted, charged and delivered.

Written from the vendors' own documents and never from our adapters: nothing here imports `providers`, `activities`,
`workflows` or another module of `onetake` (an import contract says so). One file is one vendor (`apixo`); everything
else is the core that they share:

    vendor      what a vendor file must say, and the messages between it and the core
    handling    one request from arrival to answer: receive, judge, record, misbehave on demand
    journal     the truth: append-only, kept in a folder, read again at start
    faults      the markers in a prompt that ask for a fault
    rendering   real MP4 clips          assets     signed links and the bytes behind them
    callbacks   the vendors' webhooks   wire       what only a socket can do
    app         one ASGI application    server     the process around it
"""
