"""Sequences of any length into rows of one: what training and scoring share."""

from collections.abc import Iterable, Sequence


def bucket(count: int) -> int:
    """The least power of two up to 64, else multiple of 64, that holds `count`.

    >>> [bucket(n) for n in (0, 1, 5, 64, 65, 200)]
    [8, 8, 8, 64, 128, 256]
    """
    return -(-count // 64) * 64 if count > 64 else max(8, 1 << (count - 1).bit_length())


def pack_rows(
    lengths: Sequence[int], row_length: int, order: Iterable[int] | None = None
) -> list[list[int]]:
    """Rows of example numbers, no row longer than `row_length`: best fit, longest first.

    Examples of one length are taken in `order` (default: as given). Which lengths share a row
    does not depend on it, so every epoch has equally many rows. Open rows are kept by the room
    left in them; the set bits of one integer say which amounts of room there are, so the
    tightest fit is a shift and a lowest bit away.

    >>> pack_rows([3, 5, 2, 4], row_length=7)
    [[1, 2], [3, 0]]
    """
    order = range(len(lengths)) if order is None else order
    rows: list[list[int]] = []
    by_room: dict[int, list[list[int]]] = {}
    rooms = 0
    for example in sorted(order, key=lambda i: -lengths[i]):
        length = lengths[example]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = row_length, []
            rows.append(row)
        row.append(example)
        by_room.setdefault(room - length, []).append(row)
        rooms |= 1 << (room - length)
    return rows
