"""The vendors: one file of pure functions each, the catalogue of routes and prices, and the driver that alone sends."""
