"""The test page in Chromium, against the server it comes from."""

import json

import pytest

import harness
from chromium import Chromium
from webpages import BASE, assert_clean, pictures, refuse, serve_pages, text_of, wait_for

# Title to state and words, of each line of the results.
ROWS = """Object.fromEntries([...document.querySelectorAll("#checks li")].map((item) => [
    item.querySelector(".title").textContent, [item.className, item.querySelector(".words").textContent]]))"""


@pytest.fixture
def site(serve, namespaces, tmp_path):
    """`site(config)`: a server, and a browser's page on another host."""
    browsers = []

    def start(config=None):
        server, home = serve_pages(serve, namespaces.server, tmp_path, config)
        browsers.append(Chromium(home, namespaces.world))
        return server, browsers[0].page

    yield start
    for browser in browsers:
        browser.close()


def run(tab, password=harness.PASSWORD):
    tab.open(BASE + "/")
    wait_for(tab, "document.body.dataset.done", 30, "what needs no login is tested")
    tab.evaluate(f"""document.getElementById("user").value = "alice";
        document.getElementById("password").value = {json.dumps(password)};
        document.getElementById("login").requestSubmit(); 1""")
    wait_for(tab, "document.body.dataset.done === 'all'", 150, "everything is tested")
    return tab.evaluate(ROWS)


def test_everything_works_over_udp_tcp_tls_and_signaling(site):
    server, tab = site()
    rows = run(tab)
    states = {title: state for title, (state, _) in rows.items()}
    # There is no NAT between the two hosts, and a browser may leave out an address that it has itself.
    assert states.pop("Your address, seen from outside (STUN)") in ("good", "fair"), rows
    assert states == {"This browser": "good", "Relay over UDP": "good", "Relay over TCP": "good",
                      "Relay over TLS": "good", "Relay over DTLS": "none", "Signaling (WebSocket)": "good"}, rows
    assert "Everything works from here" in text_of(tab, "#verdict")
    assert_clean(tab)
    pictures(tab, "visitor")
    assert server.log().count(harness.PASSWORD) == 0


def test_where_udp_is_kept_out_it_says_so_and_what_is_left(site, namespaces):
    server, tab = site()
    refuse(namespaces.world, f"udp dport {server.port} drop")
    rows = run(tab)
    assert rows["Relay over UDP"][0] == "bad" and "No answer by UDP from 10.77.0.1" in rows["Relay over UDP"][1], rows
    state, words = rows["Your address, seen from outside (STUN)"]
    assert state == "bad" and "No answer came by UDP" in words, rows
    assert rows["Relay over TCP"][0] == rows["Relay over TLS"][0] == "good", rows
    assert "over TCP and TLS, and not over UDP" in text_of(tab, "#verdict")
    assert_clean(tab)
    pictures(tab, "visitor-without-udp")


def test_a_wrong_password_is_told_and_nothing_is_tried_with_it(site):
    _, tab = site()
    rows = run(tab, "wrong")
    assert not any("Relay" in title for title in rows), rows
    assert "The credentials do not hold." in text_of(tab, "#login-error")
    assert_clean(tab, forgiven=["401"])
    pictures(tab, "visitor-refused")


def test_signaling_that_is_switched_off_is_no_fault(site):
    _, tab = site({"signaling": {"enabled": False}})
    rows = run(tab)
    assert rows["Signaling (WebSocket)"] == ["none", "Signaling is switched off on this server."], rows
    assert rows["Relay over UDP"][0] == "good", rows
