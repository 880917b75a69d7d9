"""A driver that is killed while it waits: six ancestors are done, the seventh runs, a dependent waits for all."""

import time

from given import execute

from scalable_hpc import ScalableSession


def part(number: int) -> int:
    execute("part", number)
    return number


def takes_a_while(number: int) -> int:
    """So that the driver can be killed under it; its worker brings it back to the next one."""
    execute("takes_a_while", number)
    time.sleep(8)
    return number


def total(parts: list[int]) -> int:
    execute("total", len(parts))
    return sum(parts)


def main() -> None:
    with ScalableSession.from_yaml("./scalable.yaml", target="local") as client:
        parts = client.map(part, range(6))
        client.collect(parts)
        last = client.submit(takes_a_while, 1)
        client.submit(total, [*parts, last]).result()


if __name__ == "__main__":
    main()
