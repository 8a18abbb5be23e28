"""On the manager's host: waits until so many sectors are proven, to the manager and to the devnet, each by one PreCommit and one ProveCommit. Fails at
once if one is blocked, or a message has failed.

Arguments: the limit in seconds, and how many sectors.
"""

import json
import subprocess
import sys
import time
import urllib.request

end = time.monotonic() + float(sys.argv[1])


def manager(*arguments):
    command = ["runuser", "-u", "sealbus", "--", "sealbus-manager", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def sectors():
    return manager("sectors", "list")


def proven_on_chain():
    token = open("/srv/devnet/token-read").read().strip()
    request = urllib.request.Request(
        "http://127.0.0.1:1234/rpc/v1",
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "Devnet.Stats", "params": []}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        miner = json.load(answer)["result"]["miners"]["1000"]
    assert not miner["failed"], miner["failed"]
    return [number for number, sector in miner["sectors"].items() if (sector["pre_commits"], sector["prove_commits"]) == (1, 1)]


wanted = int(sys.argv[2])
while True:
    known = sectors()
    print(json.dumps(known), flush=True)
    blocked = [sector for sector in known if sector.get("blocked")]
    if blocked:
        sys.exit(f"blocked: {blocked}")
    proven = [sector for sector in known if sector["state"] == "proving"]
    if len(proven) >= wanted:
        assert len(proven_on_chain()) == len(proven), (proven_on_chain(), proven)
        sys.exit(0)
    if time.monotonic() > end:
        sys.exit("not in time")
    time.sleep(1)
