"""The daemon behind the stand-in commands of PBS: ``python -m tests.standins.pbs_server STATE``.

One process and one thread, so that whatever the commands see is one state after another. It ends, and everything that
it runs, when ``<state>/socket`` is taken away, on SIGTERM, or when its parent is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.standins.pbs_answers import Answers, Reply
from tests.standins.pbs_cluster import Cluster

BREATH_S = 0.03


class Daemon:
    """Takes requests, answers them now, later or never, and lets time pass in between."""

    def __init__(self, state: Path) -> None:
        self.cluster = Cluster(state)
        self.answers = Answers(self.cluster)
        self.path = state / "socket"
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.ends = False

    def run(self) -> None:
        parent = os.getppid()
        while not self.ends and self.path.exists() and os.getppid() == parent:
            for key, _ in self.selector.select(BREATH_S):
                key.data(key.fileobj)
            now = time.time()
            for moment, act in [one for one in self.due if one[0] <= now]:
                self.due.remove((moment, act))
                act()
            self.cluster.tick()
            self.answers.look_at_tasks()
        self.cluster.end_everything()

    def _accept(self, listener: socket.socket) -> None:
        line, _ = listener.accept()
        line.settimeout(5)
        self.selector.register(line, selectors.EVENT_READ, partial(self._take, bytearray()))

    def _take(self, got: bytearray, line: socket.socket) -> None:
        try:
            more = line.recv(1 << 16)
        except OSError:
            more = b""
        got += more
        if more:
            return
        self.selector.unregister(line)
        with contextlib.suppress(ValueError):
            self._serve(json.loads(bytes(got)), line)

    def _serve(self, request: dict, line: socket.socket) -> None:
        self.cluster.tick()
        name, settings = request["command"], self.cluster.settings
        if name in settings.hang:
            self.due.append((float("inf"), line.close))  # kept, so that it stays open
            return
        reply = self.answers.answer(request, partial(_reply, line))
        if reply is not None:
            act = partial(_reply, line, reply)
            delay = settings.delay_s.get(name, 0.0)
            self.due.append((time.time() + delay, act)) if delay else act()


def _reply(line: socket.socket, reply: Reply) -> None:
    out, err, rc = reply
    with contextlib.suppress(OSError):
        line.sendall(json.dumps({"stdout": out, "stderr": err, "rc": rc}).encode())
    line.close()


def main() -> None:
    daemon = Daemon(Path(sys.argv[1]))

    def stop(*_: object) -> None:
        daemon.ends = True

    signal.signal(signal.SIGTERM, stop)
    daemon.run()


if __name__ == "__main__":
    main()
