"""Certificates of an authority that only a test knows."""

import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def issued_pair(directory, addresses):
    """An RSA certificate for these IP addresses, signed by an authority made for it: (chain, key, authority)."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, authority_key = directory / "authority.pem", directory / "authority-key.pem"
    request, key, leaf = directory / "leaf.csr", directory / "leaf-key.pem", directory / "leaf.pem"
    openssl("req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", 300, "-subj", "/CN=test authority", "-addext",
            "keyUsage=critical,keyCertSign,cRLSign", "-out", authority, "-keyout", authority_key)
    openssl("req", "-newkey", "rsa:3072", "-nodes", "-subj", "/CN=turn.test", "-out", request, "-keyout", key)
    names = ",".join(["DNS:turn.test", *(f"IP:{address}" for address in addresses)])
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={names}\nkeyUsage=critical,digitalSignature\n"
                          "extendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:false\n")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", 200,
            "-sha256", "-extfile", extensions, "-out", leaf)
    key.chmod(0o600)
    return leaf, key, authority


def trust_in_browser(home, authority):
    """Has a browser that runs with this home directory trust the authority: its store is NSS's."""
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-n", "test authority", "-t", "C,,", "-i", str(authority)]):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True, capture_output=True)
