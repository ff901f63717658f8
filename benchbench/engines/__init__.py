"""Engines start workers; the worker and the protocol are always the same."""
