"""This release's number, in a module of its own so that every room may have it."""

__version__ = "0.1.0"
