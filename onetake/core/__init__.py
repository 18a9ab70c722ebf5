"""What every part may import: contracts, errors, money, ids, names, ports, settings and logs. Nothing here connects to
anything."""
