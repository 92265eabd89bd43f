"""The stage of a comparison: the two servers, the generator, and what is read of a process meanwhile."""

import base64
import contextlib
import hmac
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
HOST = "127.0.0.1"
SECRET = "the secret of the benchmark"
START_SECONDS = 30
# A user's peers are bounded, so connections are spread over as many users.
USERS = 400


class Trouble(Exception):
    """What went wrong, in a line, with the mend."""


def free_port():
    with socket.socket() as one:
        one.bind((HOST, 0))
        return one.getsockname()[1]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)
    if done.returncode != 0:
        raise Trouble(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Server:
    """A process that serves signaling on `port`."""

    def __init__(self, directory, command, cpus, **environment):
        self.port, self.output = None, directory / "output"
        self.command, self.cpus, self.directory = command, cpus, directory
        self.environment = environment

    def __enter__(self):
        self.port = free_port()
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in self.command(self.port)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.directory, env={**os.environ, **self.environment},
                preexec_fn=lambda: os.sched_setaffinity(0, self.cpus) if self.cpus else None)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Trouble(f"{self.command(self.port)[0]} does not serve: {self.output.read_text()[-300:]}")
            time.sleep(0.05)

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of all threads."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def resident_kib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise Trouble("the server has ended")


class Watch:
    """What a server uses while something runs: its CPU time by the clock, and its peak of resident memory."""

    STEP_SECONDS = 0.02

    def __init__(self, server):
        self.server, self.samples, self.peak_kib = server, [], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while True:
            self.samples.append((time.monotonic(), self.server.cpu_seconds()))
            self.peak_kib = max(self.peak_kib, self.server.resident_kib())
            if self.over.wait(self.STEP_SECONDS):
                return

    def cpu_seconds(self, seconds):
        """Of the first so many seconds."""
        start, used = self.samples[0]
        within = [sample for sample in self.samples if sample[0] <= start + seconds]
        return max(within[-1][1] - used, 1e-9)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Bench:
    """The programs, the certificate and the users of one comparison."""

    def __init__(self, directory, server):
        self.directory = directory
        # Ten thousand connections are as many open files in the server and in the generator, which inherit this.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.turnpike = self.program(server or REPOSITORY / ".build/release/turnpike", "build it, or say --server")
        self.node = self.program("node", "install nodejs and node-ws")
        cores = sorted(os.sched_getaffinity(0))
        self.server_cpus, self.load_cpus = (cores[:1], cores[1:]) if len(cores) > 1 else (None, None)
        self.generator = directory / "sigload"
        run("gcc", "-std=gnu11", "-O2", "-o", self.generator, HERE / "sigload.c", "-lssl", "-lcrypto")
        self.certificate, self.key = directory / "certificate.pem", directory / "key.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{HOST}",
            "-out", self.certificate, "-keyout", self.key)
        self.users = directory / "users"
        self.write_users(self.users, [f"user{number}" for number in range(USERS)])

    @staticmethod
    def program(path, mend):
        found = shutil.which(str(path))
        if not found:
            raise Trouble(f"{path} is not a program; {mend}")
        return found

    def write_users(self, path, names):
        expiry = int(time.time()) + 86_400
        lines = []
        for name in names:
            username = f"{expiry}:{name}"
            password = base64.b64encode(hmac.digest(SECRET.encode(), username.encode(), "sha1")).decode()
            lines.append(f"{username} {password}\n")
        path.write_text("".join(lines))

    def ours(self, **signaling):
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        data = directory / "data"
        generous = {"messages_per_second": 1_000_000, "burst": 1_000_000, "connections_per_user": 1_000_000,
                    "connections_per_address": 1_000_000, **signaling}
        path = directory / "turnpike.yml"

        def command(port):
            # JSON is YAML.
            path.write_text(json.dumps({
                "listen": {"udp": [f"{HOST}:{free_port()}"], "tcp": [], "tls": [], "dtls": [],
                           "https": [f"{HOST}:{port}"]},
                "workers": 1, "tls": {"certificate": str(self.certificate), "private_key": str(self.key)},
                "signaling": generous, "log": {"level": "warning"},
            }))
            return [self.turnpike, "serve", "--config", path, "--data-dir", data]

        run(self.turnpike, "secret", "add", "bench", "--stdin", "--data-dir", data, input=SECRET + "\n")
        return Server(directory, command, self.server_cpus)

    def rival(self):
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        # Debian's packages lie where only a program of the system's own looks by itself.
        return Server(directory, lambda port: [self.node, HERE / "server.js", port, self.certificate, self.key, SECRET],
                      self.server_cpus, NODE_PATH="/usr/share/nodejs:/usr/lib/nodejs")

    def load(self, server, count, users=None, shape="whole", niceness=0):
        return Load(self, server, count, users or self.users, shape, niceness)


class Load:
    """A generator with its connections. One that is nicer than another leaves the processor to that."""

    def __init__(self, bench, server, count, users, shape, niceness):
        command = [bench.generator, HOST, server.port, bench.certificate, users, count, shape]
        self.server = server
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            preexec_fn=lambda: (os.nice(niceness), bench.load_cpus and os.sched_setaffinity(0, bench.load_cpus)))
        try:
            self.opening = self.answer()
        except Trouble:
            self.__exit__()
            raise
        if self.opening["failed"] or self.opening["ready"] != count:
            self.__exit__()
            raise Trouble(
                f"of {count} connections {self.opening['ready']} were taken and {self.opening['failed']} refused, of "
                f"{resource.getrlimit(resource.RLIMIT_NOFILE)[1]} open files that ulimit -Hn allows; the server says: "
                f"{server.output.read_text()[-300:]}")

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Trouble(f"the generator ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        return self.answer()

    def run(self, rate, window, seconds, size):
        """What the generator counted; the server's CPU time from the first message to the last; its CPU time as long as
        messages were sent; and its peak of resident memory."""
        before = self.server.cpu_seconds()
        with Watch(self.server) as watch:
            result = self.ask(f"run {rate} {window} {seconds} {size}")
        result["cpu_seconds"] = self.server.cpu_seconds() - before
        result["cpu_seconds_in_time"] = watch.cpu_seconds(seconds)
        result["peak_kib"] = watch.peak_kib
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
