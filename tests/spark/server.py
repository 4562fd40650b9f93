"""A private PostgreSQL server, as the Rust tests start theirs: free port, temporary folder, stopped at the end."""

import contextlib
import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator


def programs() -> str:
    """The folder of initdb; Debian keeps the server's programs off the PATH."""
    folders = glob.glob("/usr/lib/postgresql/*/bin")
    folders.sort(key=lambda folder: int(re.search(r"/(\d+)/", folder)[1]))
    for folder in reversed(folders):
        if os.path.exists(f"{folder}/initdb"):
            return folder
    on_path = shutil.which("initdb")
    if not on_path:
        sys.exit("missing: PostgreSQL 15 or newer (the server's programs); install it with: sudo apt-get install postgresql")
    return os.path.dirname(on_path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Runs a server and gives the address of its one, empty database."""
    bin_folder, port = programs(), free_port()
    folder = tempfile.mkdtemp(prefix="hitherto-spark-pg-")
    # PostgreSQL refuses to run as root.
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    if as_postgres:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        command = [*as_postgres, f"{bin_folder}/{program}", *arguments]
        # Into a file: the server would keep a pipe open for as long as it runs.
        with open(f"{folder}/said", "w+") as said:
            if subprocess.run(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT).returncode:
                said.seek(0)
                sys.exit(f"{' '.join(command)} failed:\n{said.read()}")

    data = f"{folder}/data"
    try:
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D", data)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-s", "-l", f"{folder}/log", "-o", options, "-D", data, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "-D", data, "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
