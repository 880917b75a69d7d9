"""Who hangs on whom: dependents on their ancestors, equal calls on the one of them that is run.

Rule 1: pure bookkeeping by task id; what the ties mean is the ledger's business.
"""

from __future__ import annotations


class Ties:
    """The ties between the tasks of a run."""

    def __init__(self) -> None:
        self._dependents: dict[str, dict[str, None]] = {}
        self._followers: dict[str, dict[str, None]] = {}
        """By leader, in order of submission."""
        self._leaders: dict[str, dict[str, str]] = {}
        """Store, then key, then the task that stands for that key."""

    def depend(self, task_id: str, ancestor_id: str) -> None:
        """Note that a task waits for the result of another."""
        self._dependents.setdefault(ancestor_id, {})[task_id] = None

    def dependents(self, task_id: str) -> tuple[str, ...]:
        """Return the tasks that wait for the result of one, over or not."""
        return tuple(self._dependents.get(task_id, ()))

    def pop_dependents(self, task_id: str) -> list[str]:
        """Return them once more and forget them: their ancestor is done."""
        return list(self._dependents.pop(task_id, ()))

    def leader(self, store: str, key: str) -> str | None:
        """Return the task that stands for a key."""
        return self._leaders.get(store, {}).get(key)

    @property
    def keys(self) -> int:
        """How many different keys there are, store by store."""
        return sum(map(len, self._leaders.values()))

    def lead(self, store: str, key: str, task_id: str) -> None:
        """Let a task stand for a key from now on."""
        self._leaders.setdefault(store, {})[key] = task_id

    def follow(self, task_id: str, leader_id: str) -> None:
        """Attach a task to the one that stands for their key."""
        self._followers.setdefault(leader_id, {})[task_id] = None

    def followers(self, leader_id: str) -> tuple[str, ...]:
        """Return the tasks that are attached to one."""
        return tuple(self._followers.get(leader_id, ()))

    def unfollow(self, task_id: str, leader_id: str) -> None:
        """Detach a task; one that is not attached is no error."""
        followers = self._followers.get(leader_id)
        if followers is not None:
            followers.pop(task_id, None)
            if not followers:
                del self._followers[leader_id]
