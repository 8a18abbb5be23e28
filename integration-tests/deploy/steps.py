"""Prints the number of each sector in the slots of a directory, and the step that it is in by the slot's journal.

Argument: the directory.
"""

import pathlib
import re
import sys

for journal in sorted(pathlib.Path(sys.argv[1]).glob("slot*/journal")):
    sectors = [re.fullmatch(r"s-t01000-(\d+)\.\d+", path.name) for path in journal.parent.iterdir()]
    # MessagePack: a short text is one byte with its length, and its letters.
    step = re.search(rb"\xa4step[\xa0-\xbf]([a-z0-9_]+)", journal.read_bytes())
    for sector in filter(None, sectors):
        print(sector[1], step[1].decode() if step else "-")
