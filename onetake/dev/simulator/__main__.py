"""`python -m onetake.dev.simulator`."""

import sys

from onetake.dev.simulator.server import main

sys.exit(main())
