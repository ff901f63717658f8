"""What a gate compares: two builds of a project, found, installed and loaded beside each other."""
