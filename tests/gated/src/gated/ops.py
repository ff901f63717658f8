"""The operations of the project."""


def scaled(x):
    """Twice the input."""
    return x * 2.0
