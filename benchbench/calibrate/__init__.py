"""The harness measuring itself: how often it is wrong on this machine, and how sharp it is."""
