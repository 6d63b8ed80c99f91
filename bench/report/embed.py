"""Turns a text file into a C++ string literal to be included: embed.py INPUT OUTPUT"""

import sys

# Compilers limit the length of one literal; neighbouring ones are joined.
CHUNK = 8000

source, target = sys.argv[1:]
with open(source, encoding='utf-8') as file:
    text = file.read()
assert ')embed"' not in text
with open(target, 'w', encoding='utf-8') as file:
    for begin in range(0, len(text), CHUNK):
        file.write('R"embed(' + text[begin:begin + CHUNK] + ')embed"\n')
