#!/usr/bin/env python3
"""A processor that speaks the protocol of damocles, written from docs/processors.md alone, with only Python's standard library.

    processor_v1.py tree_d
    processor_v1.py c2 COMMAND [ARGUMENTS...]

`tree_d` is computed here. `c2` is passed to a command of yours, for example one that sends it to a GPU farm. The command gets
the task as JSON on stdin and prints the output as JSON on stdout. Its exit status says whether it succeeded.

In worker.toml:

    [[processor]]
    stage = "tree_d"
    protocol = "damocles"
    bin = "/opt/seal/processor_v1.py"
    args = ["tree_d"]
"""

import hashlib
import json
import os
import subprocess
import sys
import threading

speaking = threading.Lock()


def say(line):
    """Everything on stdout is written here, one whole line at a time."""
    with speaking:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def log(text):
    print(f"processor_v1: {text}", file=sys.stderr, flush=True)


def node(left, right):
    """The parent of two nodes: SHA-256 with its two highest bits cleared, so that it is a field element."""
    digest = bytearray(hashlib.sha256(left + right).digest())
    digest[31] &= 0x3F
    return bytes(digest)


def tree_d(task):
    """Writes all nodes of the binary tree over the staged file, 32 bytes each: first the leaves, then each level up to the root.

    For real sector sizes, read and write in chunks and hash on many cores; the layout stays the same.
    """
    with open(task["staged_file"], "rb") as staged:
        data = staged.read()
    level = [data[at : at + 32] for at in range(0, len(data), 32)]
    path = os.path.join(task["cache_dir"], "sc-02-data-tree-d.dat")
    with open(path, "wb") as tree:
        while True:
            tree.write(b"".join(level))
            if len(level) == 1:
                break
            level = [node(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return True


def c2(task):
    done = subprocess.run(sys.argv[2:], input=json.dumps(task).encode(), stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise RuntimeError(f"{sys.argv[2]} ended with status {done.returncode}")
    return json.loads(done.stdout)


STAGES = {"tree_d": tree_d, "c2": c2}


def serve(serves, request):
    number = request["id"]
    response = {"id": number, "err_msg": None, "output": None}
    try:
        response["output"] = serves(request["task"])
        log(f"request {number} done")
    except Exception as error:
        response["err_msg"] = f"{type(error).__name__}: {error}"
        log(f"request {number} failed: {response['err_msg']}")
    say(json.dumps(response))


def main():
    stage = sys.argv[1]
    serves = STAGES[stage]
    say(f"{stage} processor ready")
    threads = []
    for line in sys.stdin:
        thread = threading.Thread(target=serve, args=(serves, json.loads(line)))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


main()
