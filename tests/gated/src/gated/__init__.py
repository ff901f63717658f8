"""A project that is not benchbench: what a gate is tried on."""
