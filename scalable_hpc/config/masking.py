"""Which environment variables are nobody else's business, by their names or by a password in an address; pure.

Rule 1: in doubt a variable is secret: it then reaches the workers all the same, only by another way.
"""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
"""Stands for a secret wherever settings are shown."""

_WORDS = "TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIAL|APIKEY|KEY|COOKIE|AUTH"
_TELLING_NAME = re.compile(rf"(?:^|_)(?:[A-Z0-9]*(?:{_WORDS}))S?(?:_|$)", re.IGNORECASE)
"""A word of the name ends like one of these: ``HF_TOKEN``, ``GITHUBTOKEN``, ``AWS_SECRET_ACCESS_KEY``."""
_OURS = "SCALABLE_HPC_"
"""What the library reads itself: names of files, never what is in them."""
_PASSWORD_IN_ADDRESS = re.compile(r"://.*:.*@")
"""``postgres://me:password@host``."""


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's value is kept out of job scripts, plans and reports."""
    if name.startswith(_OURS):
        return False
    return bool(_TELLING_NAME.search(name) or _PASSWORD_IN_ADDRESS.search(value))


def masked(name: str, value: str) -> str:
    """Return the value as it may be shown."""
    return HIDDEN if is_secret(name, value) else value
