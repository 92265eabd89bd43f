"""What scanners say of TLS: sslscan and testssl.sh against the server's own certificate and against a given one."""

import json
import subprocess
import xml.etree.ElementTree as tree

import pytest

from certificates import issued_pair
from test_tls import HOST, serve_tls

# Forward secrecy and authenticated encryption; the key of the certificate decides which of TLS 1.2's there are.
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
TLS_1_2 = {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"}
GROUPS = {"x25519", "secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)", "X25519MLKEM768"}

# What testssl.sh marks down that is meant to be so, or is not the server's to mend.
ACCEPTED = {
    # All are strong, and the client knows whether it has AES in hardware (Mozilla's guidelines say the same).
    "cipher_order": "NOT a cipher order configured",
    # No certificate of a test is known to an authority that could revoke it or be named in the DNS.
    "cert_revocation": "Neither CRL nor OCSP URI provided",
    "DNS_CAArecord": "--",
    # About the openssl that testssl.sh runs.
    "engine_problem": "No engine or GOST support via engine",
}
# That nobody has signed it, and that nothing renews it: it is for clients that pin it.
ACCEPTED_OF_OWN = {
    "cert_chain_of_trust": "failed (self signed)",
    "cert_validityPeriod": "days",
    "cert_notAfter": "",
    "cert_extlifeSpan": "",
}
MARKED_DOWN = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN"}
# Each of these has to have been looked at, with this result.
WANTED = {
    "SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
    "TLS1_2": "offered", "TLS1_3": "offered", "cipherlist_NULL": "not offered", "cipherlist_aNULL": "not offered",
    "cipherlist_EXPORT": "not offered", "cipherlist_LOW": "not offered", "cipherlist_3DES_IDEA": "not offered",
    "cipherlist_AVERAGE": "not offered", "heartbleed": "not vulnerable", "CCS": "not vulnerable",
    "ROBOT": "not vulnerable", "secure_renego": "supported", "secure_client_renego": "not vulnerable",
    "CRIME_TLS": "not vulnerable", "POODLE_SSL": "not vulnerable", "SWEET32": "not vulnerable",
    "FREAK": "not vulnerable", "DROWN": "not vulnerable", "LOGJAM": "not vulnerable", "BEAST": "not vulnerable",
    "LUCKY13": "not vulnerable", "RC4": "not vulnerable", "sessionresumption_ID": "not supported",
}


@pytest.fixture(params=["own", "given"])
def scanned(request, serve_tls, tmp_path):
    """(server, which certificate, the authority's file or None)"""
    if request.param == "own":
        return serve_tls(), "own", None
    leaf, key, authority = issued_pair(tmp_path, [HOST])
    return serve_tls({"tls": {"certificate": str(leaf), "private_key": str(key)}}), "given", authority


def test_sslscan_finds_tls_1_2_and_1_3_with_strong_ciphers_alone(scanned):
    server, which, _ = scanned
    scanner = ["sslscan", "--xml=-", f"{HOST}:{server.tls_port}"]
    done = subprocess.run(scanner, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    scan = tree.fromstring(done.stdout).find("ssltest")
    protocols = {(p.get("type"), p.get("version")): p.get("enabled") for p in scan.iter("protocol")}
    assert protocols == {("ssl", "2"): "0", ("ssl", "3"): "0", ("tls", "1.0"): "0", ("tls", "1.1"): "0",
                         ("tls", "1.2"): "1", ("tls", "1.3"): "1"}
    assert scan.find("renegotiation").get("supported") == "0"
    heartbleed = [h.get("vulnerable") for h in scan.iter("heartbleed")]
    assert heartbleed and set(heartbleed) == {"0"}
    ciphers = {}
    for cipher in scan.iter("cipher"):
        ciphers.setdefault(cipher.get("sslversion"), set()).add(cipher.get("cipher"))
        assert int(cipher.get("bits")) >= 128 and cipher.get("ecdhebits"), cipher.attrib
    prefix = {"own": "ECDHE-ECDSA-", "given": "ECDHE-RSA-"}[which]
    assert ciphers == {"TLSv1.3": TLS_1_3, "TLSv1.2": {prefix + name for name in TLS_1_2}}
    groups = {group.get("name") for group in scan.iter("group")}
    assert groups and groups <= GROUPS, groups
    # Compression: CRIME, below.
    compression = scan.find("compression")
    assert compression is None or compression.get("supported") == "0"


@pytest.mark.timeout(400)
def test_testssl_finds_nothing_weak(scanned, tmp_path):
    server, which, authority = scanned
    report = tmp_path / "testssl.json"
    trust = ("--add-ca", str(authority)) if authority else ()
    # Protocols, cipher categories, forward secrecy, the certificate, vulnerabilities; not how old browsers would fare.
    done = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--jsonfile", str(report), *trust,
         "-p", "-s", "-f", "-P", "-S", "-U", f"{HOST}:{server.tls_port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=360)
    findings = json.loads(report.read_text())
    found = {finding["id"]: finding["finding"] for finding in findings}
    for name, result in WANTED.items():
        assert found.get(name, "not looked at").startswith(result), f"{name}: {found.get(name)}\n{done.stdout[-2000:]}"
    accepted = {**ACCEPTED, **(ACCEPTED_OF_OWN if which == "own" else {})}
    weak = [f"{finding['severity']} {finding['id']}: {finding['finding']}" for finding in findings
            if finding["severity"] in MARKED_DOWN
            and not (finding["id"] in accepted and accepted[finding["id"]] in finding["finding"])]
    assert not weak, "\n".join(weak)
    assert "TLS_AES_256_GCM_SHA384" in found["PFS_ciphers"]
    assert set(found["PFS_ECDHE_curves"].split()) <= {"prime256v1", "secp384r1", "X25519"}, found["PFS_ECDHE_curves"]
