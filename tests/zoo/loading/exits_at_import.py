"""Leaves at import."""

import sys

sys.exit("no licence")
