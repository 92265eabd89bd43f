"""Servers that are not what somebody takes them for: on loopback, behind a certificate or none, with one answer."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading


def self_signed(directory, address="127.0.0.1", **environment):
    """A certificate for an address that has signed itself, for thirty days: (certificate, key)."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / "own.pem", directory / "own-key.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    names = ("-subj", "/CN=turn.test", "-addext", f"subjectAltName=DNS:turn.test,IP:{address}")
    subprocess.run(["openssl", "req", *kind, *names, "-out", certificate, "-keyout", key], check=True,
                   capture_output=True, env={**os.environ, **environment})
    return certificate, key


def http(status, *fields):
    head = (f"HTTP/1.1 {status} Whatever", "Content-Length: 0", "Connection: close", *fields, "", "")
    return "\r\n".join(head).encode()


class Refusing:
    """Takes connections and answers each with the same bytes; `None` is silence, and `b""` the end at once."""

    def __init__(self, answer, certificate=None, key=None):
        self.answer = answer
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            secured = self.context.wrap_socket(connection, server_side=True) if self.context else connection
            with secured:
                if secured.recv(4096) and self.answer is None:
                    self.over.wait(60)
                elif self.answer:
                    secured.sendall(self.answer)

    def close(self):
        self.over.set()
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
