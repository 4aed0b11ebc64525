"""Which store a folder is: a file at its top, written once.

The mount point of a disk that is not mounted is a folder too, and would be taken for an empty
store. A process that knows which store it writes to compares the two before it writes anything.
"""

import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .errors import StoreUnusable
from .folders import ensure_folder, full_store_named, open_regular, sync_folder, write_synced
from .manifest import check_id

IDENTITY_FILE: Final = "store.json"
_LIMIT_BYTES = 4096


def find_store_id(root: Path) -> str | None:
    """Return the id of the store in that folder; none if there is no identity file.

    Raises:
        StoreUnusable: there is one, but it cannot be read.
    """
    path = root / IDENTITY_FILE
    try:
        with open_regular(path) as file:
            whole = json.loads(file.read(_LIMIT_BYTES))
        return check_id(whole["id"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreUnusable(f"{path} does not name a store: {error}") from error


def ensure_store_id(root: Path) -> str:
    """Return the id of the store in that folder; one without an identity file gets it now.

    Creates the folder. Two processes that do this at once get the same id.

    Raises:
        StoreUnusable, StoreFull: the file cannot be written.
    """
    found = find_store_id(root)
    if found is not None:
        return found
    whole = {
        "format": 1,
        "id": str(uuid.uuid4()),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    partial = root / f".{IDENTITY_FILE}-{whole['id']}"
    with full_store_named(root, "giving the store its identity"):
        ensure_folder(root)
        try:
            write_synced(partial, json.dumps(whole).encode() + b"\n")
            os.link(partial, root / IDENTITY_FILE)
        except FileExistsError:
            pass  # another process was faster; its file counts
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(root)
    found = find_store_id(root)
    if found is None:
        raise StoreUnusable(f"{root / IDENTITY_FILE} has disappeared again")
    return found
