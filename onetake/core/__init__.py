"""What every part may import: contracts, errors, money, ids, names, ports, settings, logs and the names of the crash
points. Nothing here opens a connection."""
