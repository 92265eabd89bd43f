"""Headless Chromium, driven over a pipe by its DevTools protocol: no port, so it can run in any network namespace."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

from harness import wait_until

NETWORK_CHANGES_MAX = 5


class Chromium:
    """One browser with one page, and with more of them by `tab`."""

    def __init__(self, directory, namespace=None):
        directory.mkdir(parents=True, exist_ok=True)
        command_out, self._commands = os.pipe()
        self._events, event_in = os.pipe()
        enter = ["ip", "netns", "exec", namespace] if namespace else []
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        assert program, "chromium is not installed; Tests/run installs it"
        arguments = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
            "--disable-extensions", "--metrics-recording-only", "--remote-debugging-pipe",
            f"--user-data-dir={directory / 'profile'}", "about:blank",
        ]
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}

        def pipes():
            # Chromium reads commands from 3 and writes to 4; the pipes' ends may hold those numbers crosswise.
            reading, writing = _above(command_out, 10), _above(event_in, 10)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.output = open(directory / "chromium.log", "wb")
        self.process = subprocess.Popen([*enter, *arguments], stdin=subprocess.DEVNULL, stdout=self.output,
                                        stderr=self.output, env=environment, close_fds=False, preexec_fn=pipes)
        os.close(command_out)
        os.close(event_in)
        self._number, self._buffer, self._session = 0, b"", None
        # What the pages said since the start, in that order: (session, method, parameters).
        self.events = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]

    def tab(self):
        """Another page of the same browser."""
        target = self.call("Target.createTarget", url="about:blank", background=True)["targetId"]
        return Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    @property
    def page(self):
        return Tab(self, self._session)

    def call(self, method, timeout=60, session=None, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if "method" in answer:
                self.events.append((answer.get("sessionId"), answer["method"], answer["params"]))

    def evaluate(self, expression, timeout=60, session=None):
        """Runs JavaScript in the page, awaits its promise, and returns its value."""
        result = self.call("Runtime.evaluate", timeout, session, expression=expression, awaitPromise=True,
                           returnByValue=True)
        assert "exceptionDetails" not in result, json.dumps(result["exceptionDetails"])[:2000]
        return result["result"].get("value")

    def _read(self, deadline):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0, "Chromium does not answer"
            if select.select([self._events], [], [], left)[0]:
                chunk = os.read(self._events, 1 << 20)
                assert chunk, "Chromium has gone"
                self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def close(self):
        try:
            self._session = None
            self.call("Browser.close", 10)
            self.process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(10)
        os.close(self._commands)
        os.close(self._events)
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Tab:
    """A page that is watched: what it complains of, and what it asks for."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        for domain in ("Log", "Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, timeout=60, **parameters):
        return self.browser.call(method, timeout, self.session, **parameters)

    def evaluate(self, expression, timeout=60):
        return self.browser.evaluate(expression, timeout, self.session)

    def open(self, url):
        # In a namespace that was made a moment ago addresses are still settling, which ends what a browser has begun.
        for _ in range(NETWORK_CHANGES_MAX):
            error = self.call("Page.navigate", url=url).get("errorText")
            if error != "net::ERR_NETWORK_CHANGED":
                break
        assert not error, f"{url}: {error}"
        wait_until(lambda: self.evaluate("document.readyState === 'complete' && location.href !== 'about:blank'"), 20,
                   f"{url} is loaded")

    def _said(self, *methods):
        return [parameters for session, method, parameters in self.browser.events
                if session == self.session and method in methods]

    def complaints(self):
        """Errors and warnings of the console, exceptions nobody caught, and what the page's policy forbade."""
        entries = [f"{one['entry']['level']}: {one['entry']['text']} {one['entry'].get('url', '')}"
                   for one in self._said("Log.entryAdded") if one["entry"]["level"] in ("error", "warning")]
        calls = [json.dumps(one["args"])[:500] for one in self._said("Runtime.consoleAPICalled")
                 if one["type"] in ("error", "warning", "assert")]
        return entries + calls + [json.dumps(one)[:1000] for one in self._said("Runtime.exceptionThrown")]

    def requests(self):
        return self._said("Network.requestWillBeSent")

    def requested(self):
        """Every URL that was asked for, WebSockets included."""
        return ([one["request"]["url"] for one in self.requests()]
                + [one["url"] for one in self._said("Network.webSocketCreated")])

    def look(self, scheme="light", width=1200):
        """Sets what the page believes of its visitor: the colour scheme and the window's width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        """The whole page as a PNG."""
        # A page behind another is not drawn.
        self.call("Page.bringToFront")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


def _above(descriptor, lowest):
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, lowest)
