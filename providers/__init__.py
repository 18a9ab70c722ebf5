"""The vendors: one pure file each, the catalogue of what they accept and cost, and the driver that alone sends."""
