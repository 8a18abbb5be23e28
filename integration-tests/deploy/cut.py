"""Prints what became of each sector that was under way when the line was cut. Fails if one was given to somebody else, or took effect on chain other
than once.

Argument: the directory with the files of playbook-sites.sh.
"""

import json
import pathlib
import sys

directory = pathlib.Path(sys.argv[1])


def read(name):
    return dict(line.split(" ", 1) for line in (directory / name).read_text().splitlines())


chain = json.loads((directory / "devnet-answer").read_text())["result"]["miners"]["1000"]
sectors = {str(sector["number"]): sector for sector in json.loads((directory / "sectors").read_text().splitlines()[-1])}
steps = [read("at-the-cut"), read("at-the-mend")]
leases = [read("leases-at-the-cut"), read("leases-at-the-mend")]
wrong = []
print(f"{'sector':7} {'at the cut':20} {'at the mend':23} {'owner and token':16} {'offered':8} {'PreCommits':11} ProveCommits")
for number, lease in leases[0].items():
    # An ended lease is not shown, so in the end the offers are counted: each lease needs one.
    offered, *messages = sectors[number]["issues"], *(chain["sectors"][number][kind] for kind in ("pre_commits", "prove_commits"))
    print(f"{number:7} {steps[0][number]:20} {steps[1].get(number, '-'):23} {lease:16} {offered:<8} {messages[0]:<11} {messages[1]}")
    if leases[1][number] != lease or [offered, sectors[number]["attempt"], *messages] != [1, 1, 1, 1]:
        wrong.append(number)
if wrong or chain["failed"]:
    sys.exit(f"wrong: {wrong}, failed: {chain['failed']}")
