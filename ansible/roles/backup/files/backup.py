"""Copies the managers' database while a manager uses it. The copy is whole, checked, and on disk before it gets its name.

Arguments: the SQLite file, or `postgresql` for the database sealbus of this machine's server; the directory of the copies; how many are kept.
"""

import os
import pathlib
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

database, directory, kept = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
COUNT = "SELECT count(*) FROM sectors"


def copy_sqlite(copy):
    with closing(sqlite3.connect(f"{pathlib.Path(database).as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
        # One read transaction: the manager goes on writing meanwhile.
        connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            sys.exit(f"the copy of {database} is damaged: {found}")
        return connection.execute(COUNT).fetchone()[0]


def run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def sql(statement):
    return run("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={statement}", "sealbus")


def dump_postgresql(copy):
    if not sql("SELECT to_regclass('sectors')"):
        print("there is nothing to copy before the manager's first start")
        sys.exit(0)
    run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={copy}", "sealbus")
    # Reads it from its beginning to its end.
    run("pg_restore", "--file=/dev/null", str(copy))
    return sql(COUNT)


os.umask(0o077)
suffix, make = (".dump", dump_postgresql) if database == "postgresql" else (".db", copy_sqlite)
copy = directory / time.strftime(f"manager-%Y%m%dT%H%M%SZ{suffix}", time.gmtime())
partial = copy.with_suffix(".partial")
for left in directory.glob("manager-*.partial"):
    left.unlink()
sectors = make(partial)
for path in (partial, directory):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
partial.rename(copy)
for old in sorted(directory.glob(f"manager-*{suffix}"))[:-kept]:
    old.unlink()
print(f"{copy}: {copy.stat().st_size} bytes, {sectors} sectors")
