"""Text lines built from columns: whole batches at once, in Arrow memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.numbering import Numbers

HEXADECIMAL = pa.array([f"{value:04X}" for value in range(65_536)])
Mask = NDArray[np.bool_]


def choice(values: tuple[str, ...], codes: NDArray[np.integer]) -> pa.StringArray:
    """The value of each code."""
    return pa.array(values, type=pa.string()).take(pa.array(codes))


def digits(numbers: Numbers) -> pa.StringArray:
    """Each number in decimal."""
    return pa.array(numbers).cast(pa.string())


def where(mask: Mask, text: str | pa.StringArray, otherwise: pa.StringArray) -> pa.StringArray:
    """`text` in the rows of the mask, `otherwise` in the rest."""
    if not mask.any():
        return otherwise
    return pc.if_else(pa.array(mask), text, otherwise)


def dialled(prefix: NDArray[np.uint8], number: Numbers) -> pa.StringArray:
    """A number as it was dialled; -1 gives an empty text."""
    absent = number < 0
    text = pc.binary_join_element_wise(choice(network.PREFIXES, prefix), digits(number), "")
    return where(absent, "", text)


def lines(columns: list[pa.StringArray | str], delimiter: str) -> pa.StringArray:
    """One line a row, ended by a line feed."""
    return pc.binary_join_element_wise(pc.binary_join_element_wise(*columns, delimiter), "\n", "")


def rewritten(
    text: pa.StringArray, mask: Mask, *, pattern: str, replacement: str
) -> pa.StringArray:
    """The lines of the mask with a pattern replaced, the others as they are."""
    if not mask.any():
        return text
    chosen = pa.array(mask)
    changed = pc.replace_substring_regex(
        text.filter(chosen), pattern=pattern, replacement=replacement
    )
    return pc.replace_with_mask(text, chosen, changed)


def joined(text: pa.StringArray) -> bytes:
    """All lines as one piece of UTF-8."""
    if not len(text):
        return b""
    _, offsets, data = text.buffers()
    places = np.frombuffer(offsets, dtype=np.int32)
    begins, ends = int(places[text.offset]), int(places[text.offset + len(text)])
    return bytes(data[begins:ends])


def cut_inside_last_line(body: bytes) -> bytes:
    """The text up to the middle of its last line, as a broken transfer leaves it."""
    last = body.rfind(b"\n", 0, len(body) - 1) + 1
    return body[: last + (len(body) - last) // 2]
