"""The pages of a Parquet file's columns, by their headers alone: what decoding them would take.

A file's metadata says how large its columns are, and a page's header says it again. Whoever decodes
a page makes room for what its header says, so that is what has to be looked at first. Headers are
structs of Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) of the fields
that parquet.thrift gives them (https://github.com/apache/parquet-format).
"""

from __future__ import annotations

from dataclasses import dataclass

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
# Of a page's header: its kind, its size once unpacked, its size, and the header of its kind.
_KIND, _UNPACKED, _PACKED = 1, 2, 3
_OF_KIND = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_VALUES = 1
# Thrift's types in a struct.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_DEEPEST = 4

_Struct = dict[tuple[int, int], "int | _Struct"]


@dataclass(frozen=True, slots=True)
class ColumnPages:
    """Sums up the pages of one column in one row group.

    Attributes:
        pages: how many.
        size_bytes: of all of them once unpacked, as their headers say.
        dictionary_bytes: of the dictionary among them.
        values: in the others.
    """

    pages: int
    size_bytes: int
    dictionary_bytes: int
    values: int


def column_pages(data: memoryview, start: int, size_bytes: int, *, most: int) -> ColumnPages:
    """Walk over the pages of a column that lies in some bytes of a file.

    Args:
        data: the file.
        start: where the column begins.
        size_bytes: its size as stored.
        most: pages that are looked at.

    Raises:
        ValueError: it is cut short, its pages are of another kind than Parquet's, or too many.
    """
    end = start + size_bytes
    if not 0 <= start <= end <= len(data):
        raise ValueError("a column lies outside of the file")
    pages = unpacked = dictionary = values = 0
    at = start
    while at < end:
        try:
            header, at = _struct(data, at, 0)
        except IndexError:
            raise ValueError("a page's header is cut short") from None
        kind, larger, smaller = (header.get((n, _I32)) for n in (_KIND, _UNPACKED, _PACKED))
        if not isinstance(kind, int) or not isinstance(larger, int) or not isinstance(smaller, int):
            raise ValueError("a page says nothing of its size")
        of_kind = header.get((_OF_KIND.get(kind, 0), _STRUCT))
        count = of_kind.get((_VALUES, _I32)) if isinstance(of_kind, dict) else None
        if not isinstance(count, int) or min(larger, smaller, count) < 0:
            raise ValueError("a page of no known kind")
        at += smaller
        pages += 1
        unpacked += larger
        if kind == _DICTIONARY:
            dictionary += larger
        else:
            values += count
        if at > end or pages > most:
            raise ValueError("a page reaches beyond its column, or pages are too many")
    return ColumnPages(pages, unpacked, dictionary, values)


def _struct(data: memoryview, at: int, depth: int) -> tuple[_Struct, int]:
    """Read a struct's whole numbers and structs, by field and type, and where it ends.

    As Arrow does, a field of another type than it is to have counts as another field, and of one
    that comes twice the last counts. IndexError where the data ends before.
    """
    fields: _Struct = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _whole(data, at)
        number = (number + 2**15) % 2**16 - 2**15  # of 16 bits, as Arrow counts
        if kind in (_I16, _I32, _I64):
            fields[number, kind], at = _whole(data, at)
        elif kind == _BINARY:
            size, at = _varint(data, at)
            at += size
        elif kind == _STRUCT and depth < _DEEPEST:
            fields[number, kind], at = _struct(data, at, depth + 1)
        elif kind == _BYTE:
            at += 1
        elif kind == _DOUBLE:
            at += 8
        elif kind not in (_TRUE, _FALSE):
            raise ValueError("a page's header holds what none does")


def _whole(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number with its sign in the lowest bit, and where it ends."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first, and where it ends."""
    byte = data[at]
    value = byte & 127
    shift = 7
    while byte > 127:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a page's header holds a number of more than 64 bits")
    return value, at + 1
