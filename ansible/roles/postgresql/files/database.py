"""As the user postgres: makes the managers' role and their database if they are missing, and gives the role the password on stdin. Prints what
was changed. The password itself never reaches the server or its log, only what SCRAM keeps of it."""

import base64
import hashlib
import hmac
import os
import subprocess
import sys

NAME = "sealbus"
ITERATIONS = 4096


def sql(statement):
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]
    return subprocess.run(command, input=statement, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def verifier(password, salt, iterations):
    """As in RFC 5803, without SASLprep, which changes no printable ASCII."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def fits(kept, password):
    if not kept.startswith("SCRAM-SHA-256$"):
        return False
    iterations, salt = kept.split("$")[1].split(":")
    return hmac.compare_digest(kept, verifier(password, base64.b64decode(salt), int(iterations)))


password = sys.stdin.read().strip()
if not password or not (password.isascii() and password.isprintable()):
    sys.exit("the password must be of printable ASCII characters")
if not sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{NAME}'"):
    sql(f"CREATE ROLE {NAME} LOGIN")
    print("the role was made")
if not fits(sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{NAME}'"), password):
    sql(f"ALTER ROLE {NAME} PASSWORD '{verifier(password, os.urandom(16), ITERATIONS)}'")
    print("the password was set")
if not sql(f"SELECT 1 FROM pg_database WHERE datname = '{NAME}'"):
    # Text is ordered by bytes everywhere, also after an upgrade of the C library.
    sql(f"CREATE DATABASE {NAME} OWNER {NAME} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
    print("the database was made")
