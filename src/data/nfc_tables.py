"""Writes the tables of Unicode normalisation that src/data/nfc.cpp includes.

Usage: nfc_tables.py OUTPUT
"""

import sys
import unicodedata


def main() -> None:
    classes, pairs, compositions = [], [], []
    for value in range(0x110000):
        if 0xD800 <= value < 0xE000 or 0xAC00 <= value < 0xD7A4:  # surrogates; Hangul is computed
            continue
        char = chr(value)
        combining = unicodedata.combining(char)
        if combining:
            classes.append((value, combining))
        mapping = unicodedata.decomposition(char)
        if not mapping or mapping.startswith("<"):
            continue
        parts = [int(part, 16) for part in mapping.split()]
        first, second = parts[0], parts[1] if len(parts) == 2 else 0
        pairs.append((value, first, second))
        # What NFC does not put together again is excluded from composition.
        if second and unicodedata.normalize("NFC", char) == char:
            compositions.append((first, second, value))
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write(f"// Unicode {unicodedata.unidata_version}; made by src/data/nfc_tables.py.\n")
        for name, kind, rows in (
            ("kCombiningClasses", "CombiningClass", classes),
            ("kDecompositions", "Decomposition", pairs),
            ("kCompositions", "Composition", sorted(compositions)),
        ):
            out.write(f"constexpr {kind} {name}[] = {{\n")
            out.writelines("{%s},\n" % ", ".join(hex(v) for v in row) for row in rows)
            out.write("};\n")


main()
