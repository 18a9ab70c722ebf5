"""`make bench`: what Onetake costs, as ratios measured within one run on the real stack. See docs/benchmarks.md."""
