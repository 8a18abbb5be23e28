"""On the manager's host, after a restoration: waits until nothing changes any more, and tells what became of the sectors.

Argument: the limit in seconds. Fails if a message took effect twice.
"""

import collections
import json
import subprocess
import sys
import time
import urllib.request

end = time.monotonic() + float(sys.argv[1])


def sectors():
    command = ["runuser", "-u", "sealbus", "--", "sealbus-manager", "sectors", "list", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def chain():
    token = open("/srv/devnet/token-read").read().strip()
    request = urllib.request.Request(
        "http://127.0.0.1:1234/rpc/v1",
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "Devnet.Stats", "params": []}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["result"]["miners"]["1000"]


def fate(sector):
    if sector["state"] == "proving":
        return "active"
    return f"blocked in {sector['state']}" if sector.get("blocked") else f"stays in {sector['state']}"


seen, since = None, time.monotonic()
while time.monotonic() < end:
    known = {sector["sector"]: fate(sector) for sector in sectors()}
    now = (known, chain())
    if now != seen:
        seen, since = now, time.monotonic()
    if all(one == "active" for one in known.values()) or time.monotonic() > since + 90:
        break
    time.sleep(2)
known, on_chain = seen
fates = collections.Counter(known.values())
print("of the sectors that the manager knows:", ", ".join(f"{number} {one}" for one, number in sorted(fates.items())))
lost = [number for number in on_chain["sectors"] if f"f01000/{number}" not in known]
print(f"pre-committed, and unknown to the manager: {len(lost)} {lost}")
twice = [number for number, one in on_chain["sectors"].items() if one["pre_commits"] > 1 or one["prove_commits"] > 1]
print(f"messages that took effect twice: {len(twice)}; messages that failed: {len(on_chain['failed'])} {on_chain['failed']}")
sys.exit(bool(twice))
