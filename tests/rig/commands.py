"""Running the cluster's commands on the head, as a user at a shell would."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

from tests.rig.packages import PATH
from tests.rig.settings import RigError, Settings


class Commands:
    """Commands with the environment of one cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def attempt(
        self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever it ends with; both its outputs are captured as text.

        Raises:
            RigError: it did not end within ``timeout`` seconds.
        """
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        environment = {**os.environ, **self._settings.environment, "LC_ALL": "C.UTF-8"}
        environment["PATH"] = f"{os.environ.get('PATH', '')}:{PATH}"
        place = self._settings.root if self._settings.root.is_dir() else None  # where jobs leave their output
        try:
            return subprocess.run(
                argv,
                cwd=place,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            raise RigError(f"{shlex.join(argv)} did not end within {timeout:g} s") from err

    def run(self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60) -> str:
        """Run a command and return what it printed.

        Raises:
            RigError: it ended with anything but 0, or not in time.
        """
        done = self.attempt(command, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise RigError(f"{shlex.join(done.args)} ended with {done.returncode}: {said}")
        return done.stdout

    def answers(self, command: str | Sequence[str], *, timeout: float = 5) -> str | None:
        """What a command printed that ended well in time, else None: for asking until something is ready."""
        try:
            return self.run(command, timeout=timeout)
        except RigError:
            return None
