"""`python -m onetake.simulator`."""

import sys

from onetake.simulator.server import main

sys.exit(main())
