"""Raises at import."""

raise RuntimeError("operator torchvision::nms does not exist")
