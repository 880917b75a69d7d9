"""Laws of what slots write to stderr."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from scalable_hpc.worker.voices import TAIL_BYTES, Voice


def test_that_the_end_is_kept_and_the_beginning_is_not():
    """Bounded, whatever was said, and cut into text without an error."""
    voice = Voice()
    said = ("ä" * 3000 + "the last line\n").encode()

    os.write(voice.speaking_end, said)
    tail = voice.tail()

    assert tail.endswith("ääthe last line\n")
    assert len(tail.encode(errors="ignore")) <= TAIL_BYTES + 3


def test_that_what_was_said_before_belongs_to_somebody_else():
    """Nothing of an earlier order is evidence in a later one, even if nobody had listened yet."""
    voice = Voice()
    os.write(voice.speaking_end, b"earlier\n")

    voice.forget()
    os.write(voice.speaking_end, b"later\n")

    assert voice.tail() == "later\n"


def test_that_everything_reaches_the_log():
    """What several slots say goes to our own stderr, also what was said in the last moment before they ended."""
    script = textwrap.dedent("""
        import os
        from scalable_hpc.worker.voices import Listener, Voice

        listener, voices = Listener(), [Voice() for _ in range(4)]
        listener.start()
        for voice in voices:
            listener.add(voice)
        for line in range(1000):
            for number, voice in enumerate(voices):
                os.write(voice.speaking_end, f"slot {number} line {line}\\n".encode())
        for voice in voices:
            os.close(voice.speaking_end)
            listener.drop(voice)
        listener.close()
    """)
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60, check=True)

    lines = done.stderr.splitlines()
    for number in range(4):
        mine = [line for line in lines if line.startswith(f"slot {number} ")]
        assert mine == [f"slot {number} line {line}" for line in range(1000)]
