"""Copies the manager's SQLite database while the manager uses it. The copy is whole, checked, and on disk before it gets its name.

Arguments: the database, the directory of the copies, and how many are kept.
"""

import os
import pathlib
import sqlite3
import sys
import time
from contextlib import closing

database, directory, kept = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
copy = directory / time.strftime("manager-%Y%m%dT%H%M%SZ.db", time.gmtime())
partial = copy.with_suffix(".partial")
for left in directory.glob("manager-*.partial"):
    left.unlink()
with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
    # One read transaction: the manager goes on writing meanwhile.
    connection.execute("VACUUM INTO ?", (str(partial),))
os.chmod(partial, 0o600)
with closing(sqlite3.connect(f"{partial.as_uri()}?mode=ro", uri=True)) as connection:
    found = connection.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        sys.exit(f"the copy of {database} is damaged: {found}")
    sectors = connection.execute("SELECT count(*) FROM sectors").fetchone()[0]
for path in (partial, directory):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
partial.rename(copy)
for old in sorted(directory.glob("manager-*.db"))[:-kept]:
    old.unlink()
print(f"{copy}: {copy.stat().st_size} bytes, {sectors} sectors")
