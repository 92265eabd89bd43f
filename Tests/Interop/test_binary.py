"""The release binary itself: what it links, and how it is hardened."""

import re
import subprocess

from harness import BINARY


def readelf(*arguments):
    return subprocess.run(["readelf", "--wide", *arguments, str(BINARY)], capture_output=True, text=True,
                          check=True).stdout


def test_nothing_of_swift_is_linked_dynamically():
    text = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"^\s*(\S+)", text, re.MULTILINE)
    assert "not found" not in text
    swift = [name for name in libraries if re.search(r"swift|Foundation|dispatch|BlocksRuntime", name)]
    assert not swift, swift
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\]", readelf("--dynamic"))
    allowed = r"lib(c|m|dl|pthread|rt|gcc_s|stdc\+\+|ssl|crypto|sqlite3|z|zstd|resolv|util)\.so|ld-linux"
    assert all(re.match(allowed, name) for name in needed), needed


def test_it_is_position_independent():
    assert re.search(r"Type:\s+DYN", readelf("--file-header"))


def test_relocations_are_read_only():
    assert "GNU_RELRO" in readelf("--segments")


def test_the_stack_is_not_executable():
    stack = next(line for line in readelf("--segments").splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack and re.search(r"\bRW\b", stack), stack


def test_no_search_path_is_baked_in_that_others_could_write():
    paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*?)\]", readelf("--dynamic"))
    # $ORIGIN, where SwiftPM puts it, is the binary's own directory.
    assert all(path in ("", "$ORIGIN") for entry in paths for path in entry.split(":")), paths
