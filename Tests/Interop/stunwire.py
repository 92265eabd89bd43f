"""STUN messages byte by byte: RFC 8489 and RFC 8656, written for tests.

It is deliberately literal: every message can be built wrong. Parsing is strict: a server's answer has to be right.
"""

import base64
import binascii
import hashlib
import hmac
import os
import socket
import struct
from dataclasses import dataclass, field

COOKIE = 0x2112A442
NONCE_COOKIE = b"obMatJos2"

REQUEST, INDICATION, SUCCESS, ERROR = 0, 1, 2, 3

BINDING = 0x001
ALLOCATE = 0x003
REFRESH = 0x004
SEND = 0x006
DATA = 0x007
CREATE_PERMISSION = 0x008
CHANNEL_BIND = 0x009
CONNECT = 0x00A
CONNECTION_BIND = 0x00B
CONNECTION_ATTEMPT = 0x00C

MAPPED_ADDRESS = 0x0001
RESPONSE_ADDRESS = 0x0002
CHANGE_REQUEST = 0x0003
USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
CHANNEL_NUMBER = 0x000C
LIFETIME = 0x000D
XOR_PEER_ADDRESS = 0x0012
DATA_ATTRIBUTE = 0x0013
REALM = 0x0014
NONCE = 0x0015
XOR_RELAYED_ADDRESS = 0x0016
REQUESTED_ADDRESS_FAMILY = 0x0017
EVEN_PORT = 0x0018
REQUESTED_TRANSPORT = 0x0019
DONT_FRAGMENT = 0x001A
ACCESS_TOKEN = 0x001B
MESSAGE_INTEGRITY_SHA256 = 0x001C
PASSWORD_ALGORITHM = 0x001D
USERHASH = 0x001E
XOR_MAPPED_ADDRESS = 0x0020
RESERVATION_TOKEN = 0x0022
PADDING = 0x0026
RESPONSE_PORT = 0x0027
CONNECTION_ID = 0x002A
ADDITIONAL_ADDRESS_FAMILY = 0x8000
ADDRESS_ERROR_CODE = 0x8001
PASSWORD_ALGORITHMS = 0x8002
ICMP = 0x8004
SOFTWARE = 0x8022
FINGERPRINT = 0x8028
RESPONSE_ORIGIN = 0x802B
OTHER_ADDRESS = 0x802C
MOBILITY_TICKET = 0x8030
ORIGIN = 0x802F

UDP = struct.pack("!B3x", 17)
TCP = struct.pack("!B3x", 6)
IPV4 = struct.pack("!B3x", 1)
IPV6 = struct.pack("!B3x", 2)

MD5_ALGORITHM = struct.pack("!HH", 1, 0)
SHA256_ALGORITHM = struct.pack("!HH", 2, 0)


# Messages


def message_type(method, cls):
    """RFC 8489 section 5: the class bits sit at 0x100 and 0x010 between the method's bits."""
    return (method & 0xF80) << 2 | (method & 0x70) << 1 | (method & 0xF) | (cls & 2) << 7 | (cls & 1) << 4


def method_and_class(value):
    method = (value & 0x3E00) >> 2 | (value & 0xE0) >> 1 | (value & 0xF)
    return method, (value >> 7 & 2) | (value >> 4 & 1)


def attribute(kind, value, length=None):
    """One attribute, padded with zeros. `length` overrides the declared length."""
    declared = len(value) if length is None else length
    return struct.pack("!HH", kind, declared) + value + bytes(-len(value) % 4)


def header(method, cls, length, transaction, cookie=COOKIE):
    return struct.pack("!HHI", message_type(method, cls), length, cookie) + transaction


def transaction_id():
    return os.urandom(12)


def build(method, cls=REQUEST, attributes=(), transaction=None, key=None, integrity="sha1", fingerprint=False):
    """A whole message. `attributes` are (type, value) pairs or ready-made bytes; `key` adds an integrity attribute."""
    transaction = transaction_id() if transaction is None else transaction
    body = b"".join(a if isinstance(a, bytes) else attribute(*a) for a in attributes)
    if key is not None:
        body = add_integrity(method, cls, body, transaction, key, integrity)
    if fingerprint:
        body = add_fingerprint(method, cls, body, transaction)
    return header(method, cls, len(body), transaction) + body


def add_integrity(method, cls, body, transaction, key, integrity="sha1"):
    kind, digest, size = {
        "sha1": (MESSAGE_INTEGRITY, hashlib.sha1, 20),
        "sha256": (MESSAGE_INTEGRITY_SHA256, hashlib.sha256, 32),
    }[integrity]
    covered = header(method, cls, len(body) + 4 + size, transaction) + body
    return body + attribute(kind, hmac.new(key, covered, digest).digest())


def add_fingerprint(method, cls, body, transaction):
    covered = header(method, cls, len(body) + 8, transaction) + body
    return body + attribute(FINGERPRINT, struct.pack("!I", binascii.crc32(covered) ^ 0x5354554E))


def channel_data(number, payload, length=None):
    return struct.pack("!HH", number, len(payload) if length is None else length) + payload


@dataclass
class Message:
    method: int
    cls: int
    transaction: bytes
    attributes: list
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw):
        """Strict: a message a server sends us has to be right to the byte, padding included."""
        kind, length, cookie = struct.unpack_from("!HHI", raw)
        assert kind & 0xC000 == 0, f"not STUN: {raw[:4].hex()}"
        assert cookie == COOKIE, f"cookie {cookie:08x}"
        assert length % 4 == 0 and length + 20 == len(raw), f"length {length} in {len(raw)} bytes"
        attributes, at = [], 20
        while at < len(raw):
            attribute_type, size = struct.unpack_from("!HH", raw, at)
            value = raw[at + 4 : at + 4 + size]
            assert len(value) == size, f"attribute {attribute_type:04x} runs past the end"
            padding = raw[at + 4 + size : at + 4 + size + (-size % 4)]
            assert len(padding) == -size % 4, f"attribute {attribute_type:04x} is not padded"
            assert not any(padding), f"padding of {attribute_type:04x} is not zero: {padding.hex()}"
            attributes.append((attribute_type, value))
            at += 4 + size + (-size % 4)
        method, message_class = method_and_class(kind)
        return cls(method, message_class, raw[8:20], attributes, raw)

    def get(self, kind):
        for attribute_type, value in self.attributes:
            if attribute_type == kind:
                return value
        return None

    def kinds(self):
        return [kind for kind, _ in self.attributes]

    @property
    def is_success(self):
        return self.cls == SUCCESS

    @property
    def error(self):
        """The error code, or None."""
        value = self.get(ERROR_CODE)
        return None if value is None else (value[2] & 7) * 100 + value[3]

    @property
    def reason(self):
        value = self.get(ERROR_CODE)
        return None if value is None else value[4:]

    @property
    def lifetime(self):
        value = self.get(LIFETIME)
        return None if value is None else struct.unpack("!I", value)[0]

    def address(self, kind):
        value = self.get(kind)
        return None if value is None else decode_address(value, self.transaction)

    def plain_address(self, kind):
        """An address that is not XORed: MAPPED-ADDRESS, RESPONSE-ORIGIN, OTHER-ADDRESS."""
        value = self.get(kind)
        if value is None:
            return None
        family, port = struct.unpack_from("!xBH", value)
        assert (value[0], family, len(value)) in ((0, 1, 8), (0, 2, 20)), f"address {value.hex()}"
        return socket.inet_ntop(socket.AF_INET if family == 1 else socket.AF_INET6, value[4:]), port

    def verify(self, key, integrity):
        """Whether the integrity attribute of that kind is there and right."""
        kind, digest, size = {
            "sha1": (MESSAGE_INTEGRITY, hashlib.sha1, 20),
            "sha256": (MESSAGE_INTEGRITY_SHA256, hashlib.sha256, 32),
        }[integrity]
        at = 20
        while at < len(self.raw):
            attribute_type, length = struct.unpack_from("!HH", self.raw, at)
            if attribute_type == kind:
                covered = self.raw[:2] + struct.pack("!H", at + 4 + size - 20) + self.raw[4:at]
                return hmac.new(key, covered, digest).digest() == self.raw[at + 4 : at + 4 + length]
            at += 4 + length + (-length % 4)
        return False


# Addresses


def is_ipv6(host):
    return ":" in host


def encode_address(address, transaction=bytes(12)):
    """XOR-encoded (RFC 8489 section 14.2). IPv4 ignores the transaction id."""
    host, port = address[0], address[1]
    if is_ipv6(host):
        raw = socket.inet_pton(socket.AF_INET6, host.split("%")[0])
        mask = struct.pack("!I", COOKIE) + transaction
        return struct.pack("!xBH", 2, port ^ COOKIE >> 16) + bytes(a ^ b for a, b in zip(raw, mask))
    raw = socket.inet_pton(socket.AF_INET, host)
    mask = struct.pack("!I", COOKIE)
    return struct.pack("!xBH", 1, port ^ COOKIE >> 16) + bytes(a ^ b for a, b in zip(raw, mask))


def decode_address(value, transaction):
    family, port = struct.unpack_from("!xBH", value)
    mask = struct.pack("!I", COOKIE) + transaction
    raw = bytes(a ^ b for a, b in zip(value[4:], mask))
    assert (family, len(raw)) in ((1, 4), (2, 16)), f"address {value.hex()}"
    name = socket.inet_ntop(socket.AF_INET if family == 1 else socket.AF_INET6, raw)
    return name, port ^ COOKIE >> 16


# Credentials


def md5_key(username, realm, password):
    return hashlib.md5(f"{username}:{realm}:{password}".encode()).digest()


def sha256_key(username, realm, password):
    return hashlib.sha256(f"{username}:{realm}:{password}".encode()).digest()


def userhash(username, realm):
    return hashlib.sha256(f"{username}:{realm}".encode()).digest()


def time_limited(secret, name, expiry):
    """A username and password of the REST kind: `<expiry>:<name>`, base64(HMAC-SHA1(secret, username))."""
    username = f"{expiry}:{name}"
    return username, base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()


def nonce_features(nonce):
    """The 24 feature bits behind the nonce cookie (RFC 8489 section 9.2), or None without a cookie.

    Bit 0 is the rightmost: section 18.1 as erratum 6290 corrects it, and as the nonce of appendix B.1 has it.
    """
    if not nonce.startswith(NONCE_COOKIE):
        return None
    return int.from_bytes(base64.b64decode(nonce[9:13], validate=True), "big")
