"""Makes the running NATS server take over /etc/nats/nats.conf, and tells whether it did.

The server itself says with which configuration it runs, by a digest on its monitoring port, and shows its certificate to whoever
connects. A configuration that it refuses it tells only in its log.

Arguments: the addresses of the monitoring port and of the server, and the file of its certificate if it has one.
"""

import hashlib
import json
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request

monitor, listen, certificate = (sys.argv[1:] + [""])[:3]


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()


def wanted():
    told = run("runuser", "-u", "nats", "--", "/usr/local/bin/nats-server", "-t", "-c", "/etc/nats/nats.conf")
    digest = re.search(r"is valid \((sha256:\w+)\)", told)
    if not digest:
        sys.exit(f"/etc/nats/nats.conf is not valid for the user nats: {told}")
    if not certificate:
        return digest[1], None
    with open(certificate, encoding="ascii") as file:
        # The first is the server's own; those of authorities may follow.
        pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", file.read(), re.DOTALL)[0]
    return digest[1], fingerprint(ssl.PEM_cert_to_DER_cert(pem))


def shown_certificate():
    host, port = listen.rsplit(":", 1)
    context = ssl.create_default_context()
    # It is compared with the file instead.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        # TLS begins after the server has said who it is.
        connection.recv(65536)
        with context.wrap_socket(connection) as secured:
            return fingerprint(secured.getpeercert(binary_form=True))


def ask(path):
    with urllib.request.urlopen(f"http://{monitor}/{path}", timeout=5) as answer:
        return json.load(answer)


def running():
    try:
        digest = ask("varz").get("config_digest")
        return digest, shown_certificate() if certificate else None
    except (OSError, ValueError) as error:
        return f"unknown: {error}", None


def without_imports():
    """The accounts none of whose imported services works. nats-server 2.15.1 adds an account at a reload, but subscribes to the services that it
    imports only at the next reload."""
    subscribed = {(one["account"], one["subject"]) for one in ask("subsz?subs=1&limit=1000000").get("subscriptions_list", [])}
    lacking = []
    for account in ask("accountz")["accounts"]:
        imports = ask(f"accountz?acc={urllib.parse.quote(account)}")["account_detail"].get("imports") or []
        services = {one["local_subject"] for one in imports if one["type"] == "service" and one["account"] != "$SYS"}
        if services and not any((account, service) in subscribed for service in services):
            lacking.append(account)
    return lacking


def let_imports_work():
    if without_imports():
        run("systemctl", "reload", "nats")
        end = time.monotonic() + 10
        while lacking := without_imports():
            if time.monotonic() > end:
                sys.exit(f"NATS has these accounts without the services that they import: {', '.join(lacking)}. Restart it")
            time.sleep(0.5)
        return True
    return False


class Log:
    """What the server has logged since."""

    def __init__(self):
        self.cursor = run("journalctl", "--unit=nats", "--lines=0", "--show-cursor", "--quiet").partition("cursor: ")[2].strip()

    def read(self):
        return run("journalctl", "--unit=nats", f"--after-cursor={self.cursor}", "--output=cat", "--no-pager")


def takes_over(seconds, log):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if running() == target:
            return True
        if re.search("Failed to reload|reload not supported", log.read()):
            return False
        time.sleep(0.5)
    return False


target = wanted()
if running() == target:
    print("took over at a second reload" if let_imports_work() else "nothing new")
    sys.exit(0)
log = Log()
run("systemctl", "reload", "nats")
if takes_over(10, log):
    let_imports_work()
    print("took over")
    sys.exit(0)
if "reload not supported" in log.read():
    # This setting is read only at the start. Clients wait and reconnect.
    run("systemctl", "restart", "nats")
    if takes_over(30, Log()):
        print("took over by a restart")
        sys.exit(0)
sys.exit(f"NATS runs with {running()}, not with {target} of /etc/nats/nats.conf:\n{log.read()}")
