"""From YAML and layers to one frozen answer: what this run may use, and who said so.

``manifest.load_manifest`` is the door in, ``resolved`` holds what comes out; nothing else leaves this room.

Rule 1: pydantic is met only in ``schema``, and only when a file is read.
Rule 2: every value of the answer knows the file and line, or the layer, that set it.
"""
