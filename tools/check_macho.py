#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_macho.py FILE: whether macOS on Apple silicon would load the program FILE, as far as that can be seen elsewhere.

An arm64 executable that is position-independent, asks for libSystem alone, has segments of whole 16 KiB pages in order,
none of them writable and executable, the parts of __LINKEDIT in order, and a signature at its end whose hash of every
page is right. The rules are those that dyld enforces (dyld-1378, mach_o/Policy.cpp, UnsafeHeader.cpp, Image.cpp).
"""
import hashlib
import struct
import sys

PAGE = 0x4000
SEGMENT, DYLIB, DYLIB_WEAK, SYMTAB, DYSYMTAB = 0x19, 0xC, 0x80000018, 0x2, 0xB
UUID, SIGNATURE, STARTS, DATA_IN_CODE, MAIN = 0x1B, 0x1D, 0x26, 0x29, 0x80000028
DYLD_INFO, EXPORTS, FIXUPS, BUILD = 0x80000022, 0x80000033, 0x80000034, 0x32
READ, WRITE, EXECUTE = 1, 2, 4
PROTECTION = {"__TEXT": READ | EXECUTE, "__DATA": READ | WRITE, "__DATA_CONST": READ | WRITE, "__LINKEDIT": READ}
READ_ONLY_FLAG = 0x10


def need(condition, what):
    if not condition:
        sys.exit(f"{sys.argv[1]}: {what}")


def commands(data):
    """(command, its bytes) of all."""
    magic, cpu, _, kind, count, _, flags = struct.unpack_from("<7I", data, 0)
    need(magic == 0xFEEDFACF and cpu == 0x0100000C and kind == 2, "no executable for arm64")
    need(flags & 0x200000, "not position-independent")
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        yield command, data[at : at + size]
        at += size


def segment(c):
    name = c[8:24].rstrip(b"\0").decode()
    address, room, offset, size = struct.unpack_from("<4Q", c, 24)
    _, protection, n_sections, flags = struct.unpack_from("<4I", c, 56)
    need(address % PAGE == 0 and offset % PAGE == 0, f"{name} does not begin at a page of 16 KiB")
    need(size <= room or room == protection == 0, f"{name} is longer in the file than in memory")
    need(protection & (WRITE | EXECUTE) != WRITE | EXECUTE, f"{name} is writable and executable")
    need(PROTECTION.get(name, protection) == protection, f"{name} has protection {protection}")
    need(name != "__DATA_CONST" or flags & READ_ONLY_FLAG, "__DATA_CONST does not become read-only")
    for i in range(n_sections):
        begin, length = struct.unpack_from("<2Q", c, 72 + 80 * i + 32)
        need(address <= begin and begin + length <= address + room, f"a section lies outside of {name}")
    return name, address, room, offset, size


def linkedit_parts(command, c):
    """(offset, bytes, alignment) of what a command says lies in __LINKEDIT."""
    if command == DYLD_INFO:
        v = struct.unpack_from("<10I", c, 8)
        return [(v[i], v[i + 1], 8) for i in range(0, 10, 2)]
    if command in (FIXUPS, EXPORTS, STARTS, DATA_IN_CODE, SIGNATURE):
        return [(*struct.unpack_from("<2I", c, 8), 16 if command == SIGNATURE else 8)]
    if command == SYMTAB:
        symbols, n, strings, size = struct.unpack_from("<4I", c, 8)
        return [(symbols, 16 * n, 8), (strings, size, 1)]
    if command == DYSYMTAB:
        v = struct.unpack_from("<18I", c, 8)
        need(v[15] == 0 and v[17] == 0, "it has relocations")
        return [(v[12], 4 * v[13], 4)]
    return []


def check_signature(data, at, size):
    need(at + size == len(data), "the signature is not at the end")
    magic, _, count = struct.unpack_from(">3I", data, at)
    need(magic == 0xFADE0CC0, "the signature is none")
    directories = 0
    for i in range(count):
        b = at + struct.unpack_from(">2I", data, at + 12 + 8 * i)[1]
        if struct.unpack_from(">I", data, b)[0] != 0xFADE0C02:
            continue
        _, flags, hashes, _, _, n, limit = struct.unpack_from(">7I", data, b + 8)
        hash_bytes, hash_type, _, shift = data[b + 36 : b + 40]
        page = 1 << shift
        need(flags & 2 and hash_type == 2 and limit == at, "the signature is not one of a linker")
        need(n == -(-limit // page), "the signature has not all pages")
        for k in range(n):
            want = data[b + hashes + k * hash_bytes : b + hashes + (k + 1) * hash_bytes]
            got = hashlib.sha256(data[k * page : min((k + 1) * page, limit)]).digest()
            need(want == got, f"page {k} is not the one that was signed")
        directories += 1
    need(directories == 1, f"the signature has {directories} directories")


def main():
    with open(sys.argv[1], "rb") as f:
        data = f.read()
    segments, parts, libraries, seen = [], [], [], []
    signature = None
    for command, c in commands(data):
        seen.append(command)
        if command == SEGMENT:
            segments.append(segment(c))
        elif command in (DYLIB, DYLIB_WEAK):
            libraries.append(c[struct.unpack_from("<I", c, 8)[0] :].split(b"\0")[0].decode())
        elif command == SIGNATURE:
            signature = struct.unpack_from("<2I", c, 8)
        elif command == BUILD:
            need(struct.unpack_from("<I", c, 8)[0] == 1, "it is not for macOS")
        parts += linkedit_parts(command, c)
    for command, what in ((UUID, "UUID"), (MAIN, "entry point"), (BUILD, "build version"), (SIGNATURE, "signature")):
        need(seen.count(command) == 1, f"it has {seen.count(command)} of {what}")
    need(libraries == ["/usr/lib/libSystem.B.dylib"], f"it asks for {libraries}")
    for a, b in zip(segments, segments[1:]):
        need(a[1] + a[2] <= b[1] and (b[4] == 0 or a[3] + a[4] <= b[3]), f"{a[0]} and {b[0]} are out of order")
    name, _, _, at, size = segments[-1]
    need(name == "__LINKEDIT" and at + size == len(data), "__LINKEDIT does not end the file")
    for offset, length, align in sorted(p for p in parts if p[1]):
        need(offset >= at and offset % align == 0 and offset + length <= len(data), "__LINKEDIT's parts overlap")
        at = offset + length
    check_signature(data, *signature)
    print(f"{sys.argv[1]}: a program that macOS loads")


try:
    main()
except struct.error:
    need(False, "it is cut off")
