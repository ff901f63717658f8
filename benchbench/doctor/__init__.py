"""What makes numbers noisy on this machine, and how to mend it."""
