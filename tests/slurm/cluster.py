"""Starts munge, MariaDB and Slurm with four nodes on this machine, as root, and stops them.

``python -m tests.slurm.cluster start|stop FOLDER`` does so by hand.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
PROGRAMS = (
    *("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged"),
    *("mariadbd", "mariadb", "mariadb-install-db"),
)
_LONGEST_FOLDER = 70
"""Characters; the paths of sockets below it may have 107."""
_SRUN_PORTS = 200
# The disk is not waited for: nothing that is kept here has to survive the machine.
_DATABASE = (
    *("--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"),
    *("--innodb-doublewrite=0", "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M"),
    "--skip-log-bin",
)


def missing() -> str | None:
    """Return why no cluster can be started here; ``None`` if one can."""
    lacking = [name for name in PROGRAMS if _which(name) is None]
    if lacking:
        return (
            f"Slurm's programs are not installed ({', '.join(lacking)}); Debian has them in "
            "slurmctld slurmd slurm-client slurmdbd munge mariadb-server-core mariadb-client-core"
        )
    return None if os.geteuid() == 0 else "only root can start Slurm's daemons"


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


@dataclass(frozen=True)
class Cluster:
    """The cluster whose files are in ``folder``. Starts only what is not running yet."""

    folder: Path
    nodes: int = 4
    cpus: int = 4

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that Slurm's commands need."""
        return {"SLURM_CONF": str(self.folder / "etc/slurm.conf")}

    @property
    def node_names(self) -> list[str]:
        return [f"node{number + 1}" for number in range(self.nodes)]

    def start(self) -> None:
        """Start all, and return when jobs can be submitted. Raises ``RuntimeError``."""
        if len(str(self.folder)) > _LONGEST_FOLDER:
            raise RuntimeError(f"the path of {self.folder} is too long for sockets")
        for name in ("etc", "run", "log", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("db", "munge"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        if not (self.folder / "etc/slurm.conf").exists():
            self._configure()
        self._start_munge()
        self._start_accounting()
        self.start_controller()
        for name in self.node_names:
            self.start_node(name)
        self._until("the nodes", self._all_idle)

    def stop(self) -> None:
        """End all jobs, and whatever ``start`` started."""
        if self._pid("slurmctld") is not None:
            with suppress(subprocess.SubprocessError, RuntimeError):
                self.command("scancel", "--me")
                self._until("the ends of jobs", lambda: not self.command("squeue", "-h"), 10.0)
        names = [f"slurmd-{node}" for node in self.node_names]
        for name in ("slurmctld", *names, "slurmdbd", "mariadbd", "munged"):
            self._stop(name)

    def command(self, *words: str) -> str:
        """Return what a command of Slurm's prints. Raises ``CalledProcessError``."""
        return self._run(*words).stdout.strip()

    def start_controller(self) -> None:
        """Start slurmctld, unless it runs."""
        self._start("slurmctld", "slurmctld")
        self._until("slurmctld", lambda: "UP" in self.command("scontrol", "ping"))

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs go on."""
        self._stop("slurmctld")

    def reconfigure(self, key: str, value: str) -> None:
        """Change a line of the configuration, which is to be undone by the same way."""
        path = self.folder / "etc/slurm.conf"
        lines = path.read_text().splitlines()
        changed = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in lines]
        path.write_text("\n".join(changed) + "\n")
        self.command("scontrol", "reconfigure")

    def start_node(self, name: str) -> None:
        """Start a node, unless it runs."""
        (self.folder / "spool" / name).mkdir(exist_ok=True)
        self._start(f"slurmd-{name}", "slurmd", "-N", name)

    def kill_node(self, name: str) -> None:
        """Let a node lose its power. ``start_node`` brings it back.

        Killing slurmd alone would leave the processes of its jobs at work.
        """
        self._kill(f"slurmd-{name}")
        spool = self.folder / "spool" / name
        for step in _steps(spool, name):
            for pid in _tree(step):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        # A requeued job that came to this node again would be held otherwise.
        for left in [*spool.glob("job*"), *spool.glob(f"{name}_*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.command("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def revive_node(self, name: str) -> None:
        """Bring a node back that was killed."""
        self.start_node(name)
        self._until("the node", self._all_idle)

    def _configure(self) -> None:
        port = _free_ports(2 + self.nodes)
        nodes = (
            f"NodeName={name} NodeHostname={_host()} NodeAddr=127.0.0.1 Port={port + 2 + number}"
            for number, name in enumerate(self.node_names)
        )
        values = {
            "folder": self.folder,
            "host": _host(),
            "port": port,
            "accounting_port": port + 1,
            "srun_first": port + 2 + self.nodes,
            "srun_last": port + 2 + self.nodes + _SRUN_PORTS,
            "cpus": self.cpus,
            "nodes": "\n".join(nodes),
        }
        key = self.folder / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        # slurmdbd refuses a file that others may read. The main file comes last: it says that all
        # are there.
        for name, mode in (("slurmdbd.conf", 0o600), ("slurm.conf", 0o644)):
            path = self.folder / "etc" / name
            path.touch(mode=mode)
            path.write_text(Template((HERE / name).read_text()).substitute(values))

    def _start_munge(self) -> None:
        if self._pid("munged") is None:
            for left in (self.folder / "run").glob("munge.socket*"):
                left.unlink()
        run, munge = self.folder / "run", self.folder / "munge"
        self._start(
            *("munged", "munged", "--force", f"--key-file={munge}/key"),
            *(f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid"),
            *(f"--log-file={munge}/munged.log", f"--seed-file={munge}/seed"),
        )

    def _start_accounting(self) -> None:
        db = self.folder / "db"
        if not (db / "mysql").exists():
            self._run(
                *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={db}"),
                *("--skip-test-db", "--skip-name-resolve"),
                *("--auth-root-authentication-method=socket", *_DATABASE),
            )
        # No network and no passwords: a socket in a folder that only root may enter.
        self._start(
            *("mariadbd", "setsid", "--fork", _found("mariadbd"), "--no-defaults", "--user=root"),
            *(f"--datadir={db}", f"--socket={db}/db.sock"),
            *(f"--pid-file={self._pid_file('mariadbd')}", "--skip-networking"),
            *("--skip-grant-tables", "--performance-schema=0", "--innodb-lock-wait-timeout=900"),
            *_DATABASE,
        )
        asked = ("mariadb", "--no-defaults", f"--socket={db}/db.sock", "-e", "select 1")
        self._until("the database", lambda: bool(self.command(*asked)))
        self._start("slurmdbd", "slurmdbd", MYSQL_UNIX_PORT=f"{db}/db.sock")
        self._until("the accounting", lambda: self._run("sacctmgr", "-n", "show", "cluster"))

    def _start(self, name: str, *words: str, **environment: str) -> None:
        """Start a daemon, which writes its own file with its id."""
        if self._pid(name) is None:
            self._run(*words, **environment)
            self._until(name, lambda: self._pid(name) is not None)

    def _run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # Daemons keep what they inherit, so that a pipe would never end.
        with (self.folder / "log/commands.log").open("a+") as errors:
            return subprocess.run(
                [_found(words[0]), *words[1:]],
                env={**os.environ, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if words[0] not in _DAEMONS else errors,
                stderr=errors,
                text=True,
                timeout=60,
                check=True,
            )

    def _until(self, what: str, true: Callable[[], object], seconds: float = 40.0) -> None:
        end = time.monotonic() + seconds
        while True:
            with suppress(subprocess.CalledProcessError):
                if true():
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain for {what}; see {self.folder}/log")
            time.sleep(0.05)

    def _all_idle(self) -> bool:
        states = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t").splitlines()
        ready = [line for line in states if line.split()[1] in ("idle", "mix", "alloc")]
        return len(ready) == self.nodes

    def _pid_file(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.pid"

    def _pid(self, name: str) -> int | None:
        """Return the id of a daemon that runs."""
        try:
            pid = int(self._pid_file(name).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if name.partition("-")[0].encode() in command else None

    def _stop(self, name: str) -> None:
        if (pid := self._pid(name)) is None:
            return
        os.kill(pid, signal.SIGTERM)
        try:
            self._until(f"the end of {name}", lambda: self._pid(name) is None, 10.0)
        except RuntimeError:
            self._kill(name)

    def _kill(self, name: str) -> None:
        if (pid := self._pid(name)) is not None:
            os.kill(pid, signal.SIGKILL)
        self._pid_file(name).unlink(missing_ok=True)


_DAEMONS = ("munged", "setsid", "slurmdbd", "slurmctld", "slurmd", "mariadb-install-db")


def _found(program: str) -> str:
    path = _which(program)
    if path is None:
        raise RuntimeError(f"there is no {program} on this machine")
    return path


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(number: int) -> int:
    """Return the first of ``number`` ports in a row that nobody listens on."""
    for _ in range(100):
        first = random.randrange(20_000, 30_000)
        if all(_is_free(port) for port in range(first, first + number)):
            return first
    raise RuntimeError("found no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as asking:
        try:
            asking.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _steps(spool: Path, node: str) -> list[int]:
    """Return the ids of the processes that guard the steps of jobs on a node.

    They are known by their sockets, ``NODE_JOB.STEP``; a batch script is step 4294967291.
    """
    titles = {
        f"slurmstepd: [{path.name.removeprefix(f'{node}_').replace('.4294967291', '.batch')}]"
        for path in spool.glob(f"{node}_*.*")
    }
    return [pid for pid, command in _commands().items() if command in titles]


def _commands() -> dict[int, str]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found[int(path.parent.name)] = path.read_bytes().rstrip(b"\0 ").decode(errors="replace")
    return found


def _tree(root: int) -> list[int]:
    """Return ``root`` and all processes below it."""
    found = [root]
    for pid in found:
        with suppress(OSError):
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(int(child) for child in path.read_text().split())
    return found


def main() -> None:
    """Start or stop a cluster by hand."""
    what, folder = sys.argv[1:]
    cluster = Cluster(Path(folder).absolute())
    if what == "stop":
        cluster.stop()
        return
    cluster.start()
    sys.stdout.write(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}\n")


if __name__ == "__main__":
    main()
