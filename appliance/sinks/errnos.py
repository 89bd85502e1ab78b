"""What an error of the file system means for the spool: try again, put aside, or wait for a person.

Comes in: an `OSError`. Goes out: a `Remedy`. Never: a guess that loses alerts: an error that the table lacks is waited
for, and health names it.

Sources: errno(3), read(2), open(2); ext4 and XFS return EUCLEAN (`EFSCORRUPTED`) for a broken inode and EBADMSG
(`EFSBADCRC`) for a wrong checksum (fs/ext4/ext4.h, fs/xfs/xfs_linux.h).
"""

from __future__ import annotations

import errno
from enum import Enum


class Remedy(Enum):
    """`RETRY`: the machine is short of something for a moment; nothing to report. `ASIDE`: what was asked for is broken
    and stays so; after a few tries the record counts as damaged. `WAIT`: the place refuses as a whole and a person or
    time can mend it; alerts stay where they are, health says why."""

    RETRY = "retry"
    ASIDE = "aside"
    WAIT = "wait"


_TABLE = {
    **dict.fromkeys((errno.EINTR, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY), Remedy.RETRY),
    **dict.fromkeys(
        (
            errno.EIO,  # the medium
            errno.EUCLEAN,  # the inode
            errno.EBADMSG,  # its checksum
            errno.ELOOP,  # a link stands where our file was
            errno.EINVAL,  # something stands there that is no regular file
            errno.EISDIR,
            errno.ENOENT,  # removed by somebody
            errno.ENXIO,
            errno.EOVERFLOW,
            errno.EREMOTEIO,
            errno.ENODATA,  # unreadable sector (some block drivers)
            errno.EILSEQ,
        ),
        Remedy.ASIDE,
    ),
    **dict.fromkeys(
        (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
            errno.ENODEV,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.ENOTCONN,
            errno.ESHUTDOWN,
            errno.ENOLCK,
            errno.ENOTDIR,
        ),
        Remedy.WAIT,
    ),
}


def remedy(error: OSError) -> Remedy:
    """What to do about an error; `WAIT` for one that nobody has thought of."""
    return _TABLE.get(error.errno or 0, Remedy.WAIT)
