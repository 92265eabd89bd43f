"""The server's packet accounting, as it logs it when it stops. The names of its fields are known here alone."""

MESSAGE = "relay totals"
PACKETS_IN = "packets_in"
# Where a packet that came in can end up, but for the drops.
OUTCOMES = ("packets_relayed", "stun_handled")
DROPPED_PREFIX = "dropped_"


class Totals:
    def __init__(self, server):
        """Reads the line of the last run. The server has to be stopped, and its log format to be JSON."""
        lines = [entry for entry in server.log_entries() if entry.get("message") == MESSAGE]
        assert lines, f"no {MESSAGE!r} in the log:\n{server.log()[-2000:]}"
        entry = lines[-1]
        fields = {**entry, **entry.get("metadata", {})}
        self.packets_in = int(fields[PACKETS_IN])
        self.outcomes = {name: int(fields[name]) for name in OUTCOMES}
        self.stream_bytes_to_peers = int(fields["stream_bytes_to_peers"])
        self.stream_bytes_to_clients = int(fields["stream_bytes_to_clients"])
        self.authentication_failures = int(fields["authentication_failures"])
        self.dropped = {
            name.removeprefix(DROPPED_PREFIX): int(value)
            for name, value in fields.items() if name.startswith(DROPPED_PREFIX)
        }

    def assert_balanced(self):
        """Conservation: every packet that came in was relayed, handled, or dropped for one named reason."""
        accounted = sum(self.outcomes.values()) + sum(self.dropped.values())
        assert self.packets_in == accounted, (
            f"{self.packets_in} packets came in, {accounted} are accounted for: {self.outcomes} {self.dropped}"
        )
