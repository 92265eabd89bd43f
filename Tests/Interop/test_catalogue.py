"""Every case of the security catalogue has a test that carries its id, so that none is lost on the way.

A test carries an id by its name (`test_SP_01_…`, `sp01_…`), or by a table of rows that it runs (`"PA-01"`, `"PA_01"`).
"""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

# How many cases each section has; their numbers run from 1 without a gap.
SECTIONS = {"SP": 28, "AU": 27, "AL": 20, "PC": 23, "PA": 42, "AM": 15, "RE": 20, "TF": 10, "DT": 8,
            "WS": 24, "SG": 20}

NAME = re.compile(r"\bdef test_\w*|\bfunc \w+", re.ASCII)
IN_NAME = re.compile(r"(?<![A-Za-z])([A-Za-z]{2})_?(\d\d)(?!\d)")
TO_LIST = re.compile(r"(?<![A-Za-z])([a-z]{2})(\d\d)To([A-Z][a-z])(\d\d)_")
ROW = re.compile(r"[\"']([A-Z]{2})[-_](\d\d)[\"']")


def ids():
    return [f"{section}-{number:02}" for section, count in SECTIONS.items() for number in range(1, count + 1)]


def carried(text):
    """The ids that the tests in a file carry."""
    found = {f"{section}-{number}" for section, number in ROW.findall(text)}
    for name in NAME.findall(text):
        found |= {f"{section.upper()}-{number}" for section, number in IN_NAME.findall(name)}
        for first, start, last, end in TO_LIST.findall(name):
            assert first == last.lower(), name
            found |= {f"{first.upper()}-{number:02}" for number in range(int(start), int(end) + 1)}
    return found


def found_in_tests():
    files = [path for kind in ("test_*.py", "*Tests.swift") for path in TESTS.rglob(kind)]
    assert len(files) > 40, "the tests are not where this one looks for them"
    return set().union(*(carried(path.read_text()) for path in files if path != Path(__file__).resolve()))


def test_every_case_has_a_test_that_carries_its_id():
    found = found_in_tests()
    missing = [case for case in ids() if case not in found]
    assert not missing, f"no test carries {', '.join(missing)}"
