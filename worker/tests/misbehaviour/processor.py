#!/usr/bin/env python3
"""A processor of version 2 for stage c2 that misbehaves in the way it is told to.

The arguments determine how it starts, and "do" in a task what it does with the task. Each task runs in its own thread.

    --features a,b       announces these features
    --once FILE          the start fails only if FILE does not exist; then it creates FILE
    --greet exit|silent|wrong|old|long|half
    --deaf               ignores SIGTERM
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time

speaking = threading.Lock()
cancelled = set()


def say(line):
    with speaking:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def tell(**message):
    say(json.dumps(message).encode() + b"\n")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def touch(path):
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)


def forever():
    while True:
        time.sleep(1)


def leave_children(task):
    """Starts one child in this process group, and one in its own session, whose parent has ended."""
    here = subprocess.Popen(["sleep", "1000"])
    away = subprocess.run(
        ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True
    )
    with open(task["pids"] + ".new", "w") as file:
        file.write(f"{here.pid} {int(away.stdout)}")
    os.rename(task["pids"] + ".new", task["pids"])


def carry_out(number, task):
    what = task["do"]
    if what == "echo":
        tell(id=number, output=task)
    elif what == "wait":
        touch(task["begun"])
        wait_for(task["go"])
        tell(id=number, output=task)
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "exit":
        print("no licence", file=sys.stderr, flush=True)
        os._exit(3)
    elif what == "hang":
        forever()
    elif what == "obey":
        if "begun" in task:
            touch(task["begun"])
        while number not in cancelled:
            time.sleep(0.005)
        tell(id=number, error={"class": "temp", "code": "CANCELLED", "message": "as told"})
    elif what == "late":
        # Answers correctly, but only when nobody waits any more.
        while number not in cancelled:
            time.sleep(0.005)
        tell(id=number, output="late")
    elif what == "rubbish":
        say(b"loading kernels: 10%\n")
        forever()
    elif what == "twice":
        wait_for(task["go"])
        tell(id=number, output=1)
        tell(id=number, output=1)
    elif what == "other":
        tell(id=number + 7, output=1)
    elif what == "big":
        with speaking:
            out = sys.stdout.buffer
            out.write(b'{"id":%d,"output":"' % number)
            for _ in range(100):
                out.write(b"x" * 1_000_000)
            out.write(b'"}\n')
            out.flush()
        forever()
    elif what == "children":
        leave_children(task)
        os._exit(0)
    elif what == "children and answer":
        leave_children(task)
        tell(id=number, output=1)
    elif what == "odd error":
        error = {"class": task["class"], "code": "gpu lost!", "message": "card 3 fell off the bus"}
        tell(id=number, error=error)
    elif what == "half":
        say(b'{"id":%d,"outp' % number)
        os._exit(0)
    elif what == "half and hang":
        say(b'{"id":%d,"outp' % number)
        forever()
    elif what == "bytes":
        say(b'{"id":%d,"output":"\xff\xfe"}\n' % number)
        forever()
    elif what == "close":
        os.close(1)
        forever()
    elif what == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "progress":
        for step in (1, 2):
            tell(id=number, progress={"done": step / 4, "note": f"step {step} of 4"})
        touch(task["begun"])
        wait_for(task["go"])
        tell(id=number, output=1)
    elif what == "file":
        path = os.path.join(task.get("dir", os.environ["TMPDIR"]), f"answer-{number}")
        if "target" in task:
            os.symlink(task["target"], path)
        else:
            with open(path, "w") as file:
                json.dump("x" * task.get("bytes", 10), file)
        tell(id=number, output_file=path)
        # The next task can check whether the worker has removed the file.
    elif what == "list":
        tell(id=number, output=sorted(os.listdir(os.environ["TMPDIR"])))
    elif what == "length":
        tell(id=number, output=len(task["text"]))
    elif what == "spin":
        until = time.process_time() + task["seconds"]
        memory = bytearray(task["bytes"])
        for place in range(0, len(memory), 4096):
            memory[place] = 1
        while time.process_time() < until:
            pass
        tell(id=number, output=len(memory))


def greet(how, features):
    hello = {"sealbus_processor": 2, "stage": "c2", "pid": os.getpid(), "features": features}
    if how == "exit":
        print("no licence", file=sys.stderr, flush=True)
        os._exit(3)
    if how == "silent":
        forever()
    if how == "wrong":
        tell(**{**hello, "stage": "pc1"})
        forever()
    if how == "old":
        say(b"c2 processor ready\n")
        forever()
    if how == "long":
        say(b"x" * 100_000)
        forever()
    if how == "half":
        say(json.dumps(hello).encode()[:-9])
        os._exit(0)
    tell(**hello)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--features", default="")
    arguments.add_argument("--once")
    arguments.add_argument("--greet")
    arguments.add_argument("--deaf", action="store_true")
    given = arguments.parse_args()
    features = [name for name in given.features.split(",") if name]
    how = given.greet
    if how and os.path.exists(given.once):
        how = None
    elif how:
        touch(given.once)
    if given.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    greet(how, features)
    if "heartbeat" in features:

        def beat():
            while True:
                tell(heartbeat=True)
                time.sleep(0.1)

        threading.Thread(target=beat, daemon=True).start()
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if "cancel" in order:
            cancelled.add(order["cancel"])
            continue
        if "task_file" in order:
            with open(order["task_file"]) as file:
                order["task"] = json.load(file)
        threading.Thread(target=carry_out, args=(order["id"], order["task"]), daemon=True).start()


main()
