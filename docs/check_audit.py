#!/usr/bin/env python3
"""Check an export of an Understudy audit log: check_audit.py FILE [HEAD-DIGEST]

Needs nothing but Python 3.7 or newer. docs/audit.md describes what is checked. Ends with 0 if the
export is whole, with 1 if it is not, and with 2 if it cannot be read.
"""

import hashlib
import json
import sys


def check(lines, known):
    """Return a text about the export; raise ValueError with what is wrong."""
    first = json.loads(next(lines, "{}"))
    if first.get("format") != "understudy-audit-1":
        raise ValueError("line 1: this is no export of an audit log")
    if not first.get("is_whole"):
        raise ValueError("this is a filtered export, and so no chain")
    number, digest, found = 0, "0" * 64, 0
    for line in lines:
        number += 1
        entry = json.loads(line)
        stated = entry.pop("digest", None)
        if entry.get("number") != number:
            raise ValueError("entry %d is missing" % number)
        if entry.get("previous_digest") != digest:
            raise ValueError("entry %d does not follow on the entry before it" % number)
        text = json.dumps(entry, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        if stated != digest:
            raise ValueError("entry %d was altered" % number)
        found = number if digest == known else found
    if (first.get("entries"), first.get("head_digest")) != (number, digest):
        raise ValueError("the end is missing or was altered, after entry %d" % number)
    if known and not found:
        raise ValueError("no entry has the given head digest: the end is missing, or it was rewritten")
    return "Whole: %d entries, head digest %s%s" % (
        number, digest, "\nThe given head digest is that of entry %d." % found if found else "")


def main(path, known=""):
    try:
        with open(path, encoding="utf-8") as lines:
            print(check(iter(lines), known.strip().lower()))
    except (OSError, UnicodeDecodeError) as error:
        print("%s cannot be read: %s" % (path, error))
        return 2
    except (ValueError, AttributeError, TypeError) as error:
        print("NOT WHOLE: %s" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]) if len(sys.argv) > 1 else __doc__)
