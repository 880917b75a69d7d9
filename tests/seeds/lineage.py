"""A driver that is killed while it waits: six ancestors are done, the seventh runs, a dependent waits for all."""

import time

from given import execute

from scalable_hpc import ScalableSession


def part(number: int) -> int:
    execute("part", number)
    return number


def long_the_first_time(number: int) -> int:
    """Long the first time, so that the driver can be killed under it; quick the second."""
    if execute("long_the_first_time", number) == 1:
        time.sleep(60)
    return number


def total(parts: list[int]) -> int:
    execute("total", len(parts))
    return sum(parts)


def main() -> None:
    with ScalableSession.from_yaml("./scalable.yaml", target="local") as client:
        parts = client.map(part, range(6))
        client.collect(parts)
        last = client.submit(long_the_first_time, 1)
        client.submit(total, [*parts, last]).result()


if __name__ == "__main__":
    main()
