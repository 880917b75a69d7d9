"""Batch systems behind one Protocol of few verbs; each one's text lives in a pure module of its own."""
