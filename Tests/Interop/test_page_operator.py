"""The dashboard in Chromium: it shows what goes on, and acts."""

import json
import threading
import time

import pytest

from chromium import Chromium
from harness import Background, wait_until
from signaling import API, BOB_PASSWORD
from webpages import BASE, assert_clean, pictures, serve_pages, text_of, wait_for

SIGNALING = f"""new Promise((resolve, reject) => {{
    const socket = globalThis.socket = new WebSocket("{BASE.replace('https', 'wss')}/signal", "turnpike.v1");
    globalThis.code = null;
    socket.onopen = () => socket.send(JSON.stringify(
        {{type: "hello", username: "bob", password: "{BOB_PASSWORD}"}}));
    socket.onmessage = ({{data}}) => {{
        const message = JSON.parse(data);
        if (message.type === "welcome") {{
            socket.send(JSON.stringify({{type: "register", peerId: "bob"}}));
            socket.send(JSON.stringify({{type: "join-room", peerId: "bob", roomId: "lobby"}}));
        }}
        if (message.type === "room-joined") resolve(message.roomId);
        if (message.type === "error") reject(new Error(message.error));
    }};
    socket.onclose = ({{code}}) => {{ globalThis.code = code; }};
}})"""


class Traffic:
    """Data for a peer through the relay, until the end of the block."""

    def __init__(self, server, namespace):
        self.client = server.client(namespace=namespace).allocated()
        self.peer = server.peer(local="10.77.0.2", namespace=namespace)
        self.client.permitted(self.peer.address)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._send, daemon=True)

    def _send(self):
        while not self.over.wait(0.01):
            self.client.send_to(self.peer.address, bytes(1000))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(10)
        self.client.close()
        self.peer.close()


class Dashboard:
    def __init__(self, tab):
        self.tab = tab

    def log_in(self, token):
        self.tab.evaluate(f"""document.getElementById("token").value = "{token}";
            document.getElementById("login").requestSubmit(); 1""")

    def tile(self, name):
        return self.tab.evaluate(f"""[...document.querySelectorAll(".tile")]
            .find((tile) => tile.querySelector(".name").textContent === "{name}")
            ?.querySelector(".figure").textContent ?? "" """)

    def press(self, expression, confirm=None, deny=False):
        """Clicks; and where the page asks first, answers by the button of that name, or denies."""
        assert self.tab.evaluate(f"(() => {{ const found = {expression}; found?.click(); return Boolean(found); }})()")
        if confirm:
            assert self.tab.evaluate("document.getElementById('question').open")
            assert text_of(self.tab, "#question-yes") == confirm
            self.tab.evaluate("document.getElementById('question-yes').click()")
        elif deny:
            self.tab.evaluate("document.querySelector('#question button[value=no]').click()")
            asked = [one["request"]["method"] for one in self.tab.requests()]
            assert "POST" not in asked and "DELETE" not in asked
        else:
            assert not self.tab.evaluate("document.getElementById('question').open")

    def press_in_row(self, table, first, name, confirm=None):
        self.press(f"""[...document.querySelectorAll("#{table} tbody tr")]
            .find((row) => row.cells[0].textContent === "{first}")
            ?.querySelector("button")""", confirm)

    def shows(self, table, *texts, timeout=15):
        def shown():
            time.sleep(0.1)
            return all(one in text_of(self.tab, f"#{table}") for one in texts)

        wait_until(shown, timeout, f"#{table} shows {texts}")


@pytest.fixture
def office(serve, namespaces, tmp_path):
    """The server, the dashboard of an admin who has not logged in, and another page of the same browser."""
    server, home = serve_pages(serve, namespaces.server, tmp_path)
    with Chromium(home, namespaces.world) as browser:
        tab = browser.page
        tab.open(BASE + "/admin")
        yield server, Dashboard(tab), browser.tab()


def token_of(server):
    status, made, _ = API(server, over_socket=True).call("POST", "/api/v1/admin/tokens", {"name": "dashboard"})
    assert status == 201, made
    return made["token"]


def test_the_dashboard_shows_what_goes_on_and_acts(office, namespaces):
    server, board, other = office
    tab = board.tab
    pictures(tab, "operator-login")
    board.log_in("tpk_no_such_token")
    wait_for(tab, "!document.getElementById('problem').hidden", 10, "a wrong token is refused")
    assert "The credentials do not hold." in text_of(tab, "#problem")
    assert tab.evaluate("document.getElementById('board').hidden")

    board.log_in(token_of(server))
    wait_for(tab, "!document.getElementById('board').hidden && document.querySelector('#users tbody')", 10, "users")
    other.open(BASE + "/")
    assert other.evaluate(SIGNALING) == "lobby"
    with Traffic(server, namespaces.world) as traffic:
        board.shows("allocations", "alice", "10.77.0.2", "UDP")
        board.shows("sessions", "bob", "10.77.0.2")
        board.shows("rooms", "lobby", "bob")
        board.shows("users", "alice", "bob", "active")
        assert (board.tile("relays"), board.tile("signaling connections"), board.tile("rooms")) == ("1", "1", "1")
        # 100 packets of 1,000 bytes a second, less what a busy machine holds back.
        wait_until(lambda: "kbit/s" in board.tile("relayed now"), 15, "the relayed bit rate is shown")
        before = board.tile("relayed since the start")
        wait_until(lambda: board.tile("relayed since the start") != before, 15, "the sum grows")
        points = """(document.querySelector("#plots polyline")?.getAttribute("points") ?? "")"""
        wait_for(tab, points + '.split(" ").length > 4', 30, "there is something to plot")
        pictures(tab, "operator")

        board.press_in_row("allocations", "alice", "End", "End")
        board.shows("allocations", "No relay is in use")
        traffic.client.allocated()
        board.shows("allocations", "alice")
        board.press_in_row("users", "alice", "Disable", "Disable")
        board.shows("users", "disabled")
        board.shows("allocations", "No relay is in use")
        assert API(server, over_socket=True).get("/api/v1/admin/users/alice")["state"] == "disabled"
        board.press_in_row("users", "alice", "Enable")
        wait_until(lambda: API(server, over_socket=True).get("/api/v1/admin/users/alice")["state"] == "active", 10,
                   "alice is enabled again")

    assert other.evaluate("globalThis.code") is None
    board.press_in_row("sessions", "bob", "Kick", "Kick")
    wait_for(other, "globalThis.code !== null", 10, "bob's socket is closed")
    board.shows("sessions", "Nobody is connected")
    board.press("document.getElementById('reload')")
    wait_until(lambda: "The configuration is reloaded." in text_of(tab, "#notice"), 10, "the reload is confirmed")
    assert_clean(tab, forgiven=["401"])
    assert_clean(other)


def legend(tab, title):
    """The words under a plot, with their colours."""
    return tab.evaluate(f"""[...document.querySelectorAll("#plots figure")]
        .find((one) => one.querySelector("h2").textContent === {json.dumps(title)})
        .querySelector("figcaption").innerText""").replace("\u00a0", " ")


def test_refusals_are_plotted_by_error_code_and_by_reason(office, namespaces):
    server, board, _ = office
    tab = board.tab
    board.log_in(token_of(server))
    board.shows("users", "alice")
    errors, logins = "TURN errors answered, by code", "Failed TURN logins, by reason"
    wait_until(lambda: legend(tab, errors) == "None." or time.sleep(0.1), 15, "nothing is refused yet")
    over = threading.Event()

    def refused():
        """437 for a second Allocate, 403 for a closed peer, 401 for a wrong password and an unknown user."""
        with server.client(namespace=namespaces.world).allocated() as client:
            # Slowly: a source gets ten error replies a second.
            while not over.wait(0.5):
                assert client.allocate().error == 437
                assert client.create_permission(("127.0.0.1", 9)).error == 403
                for name, password in (("alice", "wrong"), ("nobody", "wrong")):
                    with server.client(name, password, namespace=namespaces.world) as guesser:
                        guesser.allocate()

    busy = Background(refused)
    try:
        wait_until(lambda: all(word in legend(tab, errors) for word in ("401 Unauthenticated", "403 Forbidden",
                   "437 Allocation Mismatch")) or time.sleep(0.1), 20, "codes are in the legend")
        wait_until(lambda: all(word in legend(tab, logins) for word in ("wrong password", "unknown user"))
                   or time.sleep(0.1), 20, "reasons are in the legend")
        board.shows("drops", "437 Allocation Mismatch", "wrong password", "answer", "login")
        wait_until(lambda: len(_lines(tab, errors)) >= 3 and min(_lines(tab, errors)) > 3 or time.sleep(0.1), 30,
                   "there is something to plot")
        relay = API(server, over_socket=True).get("/api/v1/admin/status")["relay"]
        assert relay["errors"]["437"] >= 1 and relay["loginFailures"]["wrong_password"] >= 1
        pictures(tab, "operator-refusals")
    finally:
        over.set()
    busy.result()
    assert_clean(tab)


def _lines(tab, title):
    """How many points each line of a plot has."""
    return tab.evaluate(f"""[...[...document.querySelectorAll("#plots figure")]
        .find((one) => one.querySelector("h2").textContent === {json.dumps(title)})
        .querySelectorAll("polyline")].map((line) => line.getAttribute("points").split(" ").length)""")


def test_a_reload_that_fails_says_why(office):
    server, board, _ = office
    board.log_in(token_of(server))
    board.shows("users", "alice")
    server.config_path.write_text("relay: [nonsense\n")
    board.press("document.getElementById('reload')")
    wait_until(lambda: "turnpike.yml" in text_of(board.tab, "#problem"), 10, "the reason is shown")
    assert_clean(board.tab, forgiven=["422"])


def test_a_question_that_is_denied_does_nothing_and_drain_ends_the_server(office, namespaces):
    server, board, _ = office
    board.log_in(token_of(server))
    board.shows("users", "alice")
    client = server.client(namespace=namespaces.world).allocated()
    board.press("document.getElementById('drain')", deny=True)
    board.press("document.getElementById('drain')", "Drain")
    wait_until(lambda: "Draining" in text_of(board.tab, "#summary"), 10, "it is shown that the server drains")
    assert board.tab.evaluate("document.getElementById('drain').disabled")
    assert server.client("bob", namespace=namespaces.world).allocate().error == 508
    assert_clean(board.tab)
    assert client.refresh(0).is_success
    assert server.process.wait(30) == 0
    server.output.close()
    server.process = None
    wait_until(lambda: "cannot be reached" in text_of(board.tab, "#problem"), 10, "it is shown that the server is gone")


def test_logging_out_forgets_the_token(office):
    server, board, _ = office
    tab = board.tab
    board.log_in(token_of(server))
    board.shows("users", "alice")
    tab.evaluate("globalThis.isOld = true; location.reload()")
    fresh = "!globalThis.isOld && document.querySelector('#users tbody')"
    wait_for(tab, fresh, 20, "a reloaded page is still logged in")
    board.press("document.getElementById('leave')")
    assert tab.evaluate("document.getElementById('board').hidden && sessionStorage.length === 0")
    assert_clean(tab)
