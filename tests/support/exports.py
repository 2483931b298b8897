"""The names that a shared library exports: of ELF, Mach-O and PE files of 64 bits, little-endian."""

from __future__ import annotations

import struct
from pathlib import Path


def exports(path: Path) -> set[str]:
    data = path.read_bytes()
    if data[:4] == b"\x7fELF":
        return _elf(data)
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return _macho(data)
    assert data[:2] == b"MZ", f"{path}: no library that is known here"
    return _pe(data)[0]


def needed(path: Path) -> set[str]:
    """The libraries that a PE file asks for, in small letters."""
    return _pe(path.read_bytes())[1]


def machine(path: Path) -> str:
    """The processor that the file is for."""
    data = path.read_bytes()
    if data[:4] == b"\x7fELF":
        return {62: "x86_64", 183: "aarch64"}[struct.unpack_from("<H", data, 18)[0]]
    if data[:2] == b"MZ":
        (pe,) = struct.unpack_from("<I", data, 60)
        return {0x8664: "x86_64", 0xAA64: "aarch64"}[struct.unpack_from("<H", data, pe + 4)[0]]
    return {0x01000007: "x86_64", 0x0100000C: "aarch64"}[struct.unpack_from("<I", data, 4)[0]]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _elf(data: bytes) -> set[str]:
    (sections,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, sections + i * size) for i in range(count)]
    names = set()
    for _, kind, _, _, at, length, link, _, _, entry in headers:
        if kind == 11:  # the dynamic symbols
            for symbol in range(at, at + length, entry):
                name, info, _, section = struct.unpack_from("<IBBH", data, symbol)
                if section and info >> 4 in (1, 2):  # defined here, global or weak
                    names.add(_text(data, headers[link][4] + name))
    return names


def _macho(data: bytes) -> set[str]:
    (commands,) = struct.unpack_from("<I", data, 16)
    names, at = set(), 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == 2:  # the symbol table
            symbols, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for symbol in range(symbols, symbols + 16 * count, 16):
                name, kind = struct.unpack_from("<IB", data, symbol)
                if kind & 0xE0 == 0 and kind & 0x11 == 1 and kind & 0x0E:  # no debugging, external not private, defined
                    names.add(_text(data, strings + name).removeprefix("_"))
        at += size
    return names


def _pe(data: bytes) -> tuple[set[str], set[str]]:
    (pe,) = struct.unpack_from("<I", data, 60)
    sections, optional = struct.unpack_from("<H12xH", data, pe + 6)
    directories, table = pe + 24 + 112, pe + 24 + optional

    def place(address: int) -> int:
        for i in range(sections):
            size, start, raw, at = struct.unpack_from("<IIII", data, table + 40 * i + 8)
            if start <= address < start + max(size, raw):
                return int(at + address - start)
        raise ValueError(f"no section holds {address:#x}")

    exported, imported = (struct.unpack_from("<I", data, directories + 8 * i)[0] for i in (0, 1))
    names, libraries = set(), set()
    if exported:
        at = place(exported)
        count, _, pointers = struct.unpack_from("<III", data, at + 24)
        for i in range(count):
            names.add(_text(data, place(struct.unpack_from("<I", data, place(pointers) + 4 * i)[0])))
    if imported:
        at = place(imported)
        while name := struct.unpack_from("<I", data, at + 12)[0]:
            libraries.add(_text(data, place(name)).lower())
            at += 20
    return names, libraries
