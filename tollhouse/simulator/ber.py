"""BER for whole columns: an element is a byte matrix with one row a record.

A row of variable length keeps its unused bytes masked out; `octets` lays the rows one behind the
other. Rules: ITU-T X.690, definite lengths, minimal integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Element:
    """Bytes of one piece of every record: matrix, mask of the bytes in use, bytes in use."""

    matrix: Bytes
    mask: Mask
    length: NDArray[np.int64]


def fixed(matrix: Bytes) -> Element:
    """Content that is equally long in every row."""
    return Element(
        matrix,
        np.ones(matrix.shape, dtype=np.bool_),
        np.full(len(matrix), matrix.shape[1], dtype=np.int64),
    )


def constant(content: bytes, rows: int) -> Element:
    """The same bytes in every row."""
    return fixed(np.tile(np.frombuffer(content, dtype=np.uint8), (rows, 1)))


def cut(matrix: Bytes, length: NDArray[np.int64]) -> Element:
    """Content of which each row uses its first `length` bytes."""
    return Element(matrix, np.arange(matrix.shape[1]) < length[:, None], length)


def integer(values: NDArray[np.integer]) -> Element:
    """Non-negative integers in as few octets as two's complement allows (X.690 clause 8.3)."""
    numbers = np.ascontiguousarray(values, dtype=">i8")
    matrix = numbers.view(np.uint8).reshape(-1, 8)
    longest = max(1, (int(numbers.max(initial=0)).bit_length() + 8) // 8)
    length = np.ones(len(matrix), dtype=np.int64)
    plain = numbers.astype(np.int64)
    for octets_used in range(1, longest):
        length += plain >= (1 << (8 * octets_used - 1))
    matrix = matrix[:, 8 - longest :]
    return Element(matrix, np.arange(longest) >= longest - length[:, None], length)


def tagged(tag: bytes, *contents: Element) -> Element:
    """Tag, length and contents; contents stay below 256 octets, as every CDR here does."""
    rows = len(contents[0].length)
    length = np.sum([content.length for content in contents], axis=0)
    if int(length.max(initial=0)) > 255:
        raise ValueError("an element of more than 255 octets needs a longer length form")
    long_form = length > 127
    head = constant(tag, rows)
    size = np.column_stack([np.full(rows, 0x81), length]).astype(np.uint8)
    size_mask = np.column_stack([long_form, np.ones(rows, dtype=np.bool_)])
    matrices = [head.matrix, size, *(content.matrix for content in contents)]
    masks = [head.mask, size_mask, *(content.mask for content in contents)]
    return Element(np.hstack(matrices), np.hstack(masks), length + len(tag) + 1 + long_form)


def octets(element: Element) -> bytes:
    """All rows, one behind the other."""
    return element.matrix[element.mask].tobytes()


def swapped_digits(numbers: NDArray[np.int64], count: int) -> Bytes:
    """TBCD of `count` decimal digits: low nibble first, an odd last digit filled with F."""
    width = (count + 1) // 2
    matrix = np.empty((len(numbers), width), dtype=np.uint8)
    rest = numbers.copy()
    nibbles = []
    for _ in range(count):
        rest, digit = np.divmod(rest, 10)
        nibbles.append(digit)
    nibbles.reverse()
    if count % 2:
        nibbles.append(np.full(len(numbers), 0xF))
    for column in range(width):
        matrix[:, column] = nibbles[2 * column + 1] << 4 | nibbles[2 * column]
    return matrix


def plain_digits(numbers: NDArray[np.int64], count: int) -> Bytes:
    """Packed BCD of an even count of digits: high nibble first, as in a TimeStamp."""
    matrix = np.empty((len(numbers), count // 2), dtype=np.uint8)
    rest = numbers.copy()
    for column in reversed(range(count // 2)):
        rest, pair = np.divmod(rest, 100)
        matrix[:, column] = pair // 10 << 4 | pair % 10
    return matrix
