"""The append-only record of one run on local disk, written before anything goes to a server.

One record a line: `crc32 json`, where the JSON object holds `seq` (counting up from 0) and `kind`.
A killed process leaves at most one torn line, at the end. The file is locked (flock) while its
writer lives, so that `recover` can tell a dead run from a running one. Where the disk refuses,
records are kept in memory and the reason is kept in `trouble`.
"""

from mlflow_carbon.journal.folder import (
    append,
    end,
    header,
    host_of,
    is_live,
    is_measured,
    live,
    orphans,
    read,
    recovering,
    starting,
)
from mlflow_carbon.journal.record import Contents
from mlflow_carbon.journal.writer import Journal

__all__ = [
    "Contents",
    "Journal",
    "append",
    "end",
    "header",
    "host_of",
    "is_live",
    "is_measured",
    "live",
    "orphans",
    "read",
    "recovering",
    "starting",
]
