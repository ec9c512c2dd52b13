"""Writes the tables of Unicode normalisation that src/data/nfc.cpp includes.

Usage: nfc_tables.py OUTPUT
"""

import sys
import unicodedata

# Marks of Unicode 10 and later. Models are trained on ids of the tokenizers library, which
# normalises by Unicode 9: to it these are letters like others.
YOUNG_MARKS = [
    (0x07FD, 0x07FD), (0x0898, 0x089F), (0x08CA, 0x08D3), (0x09FE, 0x09FE), (0x0C3C, 0x0C3C),
    (0x0D3B, 0x0D3C), (0x0EBA, 0x0EBA), (0x1715, 0x1715), (0x1ABF, 0x1ACE), (0x1DF6, 0x1DFA),
    (0xA82C, 0xA82C), (0x10D24, 0x10D27), (0x10EAB, 0x10EAC), (0x10F46, 0x10F50),
    (0x10F82, 0x10F85), (0x11070, 0x11070), (0x1133B, 0x1133B), (0x1145E, 0x1145E),
    (0x11839, 0x1183A), (0x11930, 0x11943), (0x119E0, 0x119E0), (0x11A34, 0x11A34),
    (0x11A47, 0x11A47), (0x11A99, 0x11A99), (0x11D42, 0x11D45), (0x11D97, 0x11D97),
    (0x16FF0, 0x16FF1), (0x1E130, 0x1E136), (0x1E2AE, 0x1E2AE), (0x1E2EC, 0x1E2EF),
]


def main() -> None:
    classes, pairs, compositions = [], [], []
    for value in range(0x110000):
        if 0xD800 <= value < 0xE000 or 0xAC00 <= value < 0xD7A4:  # surrogates; Hangul is computed
            continue
        if any(low <= value <= high for low, high in YOUNG_MARKS):
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
