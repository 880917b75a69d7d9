#!/usr/bin/env python3
"""The stand-ins for qsub, qstat, qselect, qdel, pbsnodes and pbsdsh: one program under six names.

It lies, by links, in ``<state>/bin``; the server beside it (``pbs_server.py``) does all the thinking.
"""

import getopt
import json
import os
import socket
import sys
import time


def main():
    me = os.path.abspath(sys.argv[0])
    name, state = os.path.basename(me), os.path.dirname(os.path.dirname(me))
    request = {"command": name, "argv": sys.argv[1:], "cwd": os.getcwd(), "umask": _umask(), "uid": os.getuid()}
    request["env"] = {key: value for key, value in os.environ.items() if "\0" not in value}
    if name == "qsub":
        request["stdin"] = _stdin(sys.argv[1:])
    if name == "qstat" and "--version" not in sys.argv:
        _throttle(state)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(os.path.join(state, "socket"))
            line.sendall(json.dumps(request).encode())
            line.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: line.recv(65536), b""))
        reply = json.loads(answer)
    except (OSError, ValueError):  # no daemon at all: nobody listens on the server's port
        sys.stderr.write(f"Connection refused\n{name}: cannot connect to server pbshead (errno=15010)\n")
        return 255 if name == "qstat" else 162
    sys.stdout.buffer.write(reply["stdout"].encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
    sys.stderr.write(reply["stderr"])
    return reply["rc"]


def _stdin(argv):
    """qsub without a script reads it from its standard input."""
    try:
        rest = getopt.getopt(argv, "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:Xz", ["version"])[1]
        return None if rest or "--" in argv or "--version" in argv else sys.stdin.read()
    except (getopt.GetoptError, OSError):
        return None


def _throttle(state):
    """qstat waits 0.2 s when this user ran one in the same second of the clock."""
    mark = os.path.join(state, "last_query")
    try:
        asked_lately = int(os.stat(mark).st_mtime) == int(time.time())
    except OSError:
        asked_lately = False
    if asked_lately and not os.path.exists(os.path.join(state, "unthrottled")):
        time.sleep(0.2)
    with open(mark, "w"):
        pass


def _umask():
    mask = os.umask(0o77)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    sys.exit(main())
