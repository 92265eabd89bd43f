"""What signaling does at all, with its connections on several threads, as on a machine with many cores."""

import threading
from pathlib import Path

import pytest

from harness import Background
from signaling import Peer, start
# Run here with this module's `shared` and `serve`.
from test_cases_sg import (  # noqa: F401
    test_SG_02_who_one_is_says_the_server, test_SG_12_resume_tokens_are_bound_and_of_use_once,
    test_SG_18_a_connection_that_breaks_the_rules_ends_alone,
)
from test_signaling import (  # noqa: F401
    test_a_cut_client_resumes_and_nothing_is_lost_or_doubled, test_a_revoked_token_closes_what_it_opened,
    test_authorization_at_the_upgrade_logs_in_at_once, test_term_tells_sockets_too,
    test_two_peers_meet_and_exchange_offer_answer_and_candidates, test_welcome_hands_out_credentials_that_relay,
)

THREADS = {"signaling": {"threads": 3, "messages_per_second": 10_000, "burst": 10_000}}


@pytest.fixture(scope="module")
def shared(serve_module):
    server = start(serve_module, THREADS)
    yield server
    server.assert_alive()


@pytest.fixture
def serve(serve):
    """Servers with three threads, whatever else a test asks for."""
    def begin(config=None, **options):
        config = dict(config or {})
        config["signaling"] = {**THREADS["signaling"], **config.get("signaling", {})}
        return serve(config, **options)

    return begin


def test_the_threads_are_there(shared):
    names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{shared.pid}/task").iterdir()]
    # One more is for metrics.
    assert sum(name.startswith("NIO") for name in names) == 4, " ".join(names)


def test_peers_on_all_threads_hear_each_other_in_order(shared):
    """Six connections fall on three threads in turn, so every pair of threads is crossed both ways."""
    peers = [Peer(shared, ("alice", "bob")[number % 2]) for number in range(6)]
    try:
        names = [f"{('alice', 'bob')[number % 2]}/{number}" for number in range(6)]
        for peer, name in zip(peers, names):
            peer.register(name)
            peer.join(name, "crossing")
        barrier = threading.Barrier(6)

        def talk(index):
            barrier.wait(20)
            for number in range(40):
                for other in names[:index] + names[index + 1 :]:
                    peers[index].send(type="signal", **{"from": names[index]}, to=other, signal=number)

        for talking in [Background(lambda index=index: talk(index)) for index in range(6)]:
            talking.result()
        for index, peer in enumerate(peers):
            heard = {name: [] for name in names if name != names[index]}
            for _ in range(40 * 5):
                message = peer.take("signal")
                heard[message["from"]].append(message["signal"])
            assert all(numbers == list(range(40)) for numbers in heard.values()), heard
    finally:
        for peer in peers:
            peer.close()
