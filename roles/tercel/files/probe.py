"""What the role wants to know of a target, asked in one go: JSON on standard output. It changes nothing.

One argument, JSON: `room`, paths whose free space is told; `files`, paths of which is told what is there; `folders`, with
mode, owner and group, of which those that are otherwise are told; `packages`, of which the missing ones are told; `kept`,
where the Debian package lies that was installed last; `shipped`, pairs of a file of a release and its place, of which, for each release, the places are told that hold something else.
Runs on whatever python3 the target has.
"""

import ctypes
import grp
import hashlib
import json
import os
import platform
import pwd
import stat
import struct
import subprocess
import sys

BPF_CALL = {"x86_64": 321, "aarch64": 280}
RING = 27  # BPF_MAP_TYPE_RINGBUF (linux/bpf.h)


def ring_buffer():
    """Why the kernel makes no ring buffer; empty where it does."""
    number = BPF_CALL.get(platform.machine())
    if number is None:
        return ""
    attributes = struct.pack("5I", RING, 0, 0, os.sysconf("SC_PAGE_SIZE"), 0).ljust(72, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, 0, attributes, len(attributes))
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""


def text_of(path, limit=4096):
    """The beginning of a file; empty where it cannot be read."""
    try:
        with open(path) as stream:
            return stream.read(limit)
    except (OSError, ValueError):
        return ""


def system():
    """os-release(5)."""
    found = {}
    for line in (text_of("/etc/os-release") or text_of("/usr/lib/os-release")).splitlines():
        name, _, value = line.partition("=")
        found[name] = value.strip("\"'")
    return found


def room_mib(path):
    """MiB free where a path lies or would lie."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize >> 20


def name_of(lookup, number):
    """The name of a user or group, its number where it has none."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def file_at(path):
    """What is there: `kind` is file, folder, link, other or none."""
    try:
        told = os.lstat(path)
    except OSError:
        return {"kind": "none"}
    found = {
        "kind": "other",
        "mode": "%04o" % stat.S_IMODE(told.st_mode),
        "owner": name_of(pwd.getpwuid, told.st_uid),
        "group": name_of(grp.getgrgid, told.st_gid),
    }
    if stat.S_ISLNK(told.st_mode):
        found.update(kind="link", target=os.readlink(path))
    elif stat.S_ISDIR(told.st_mode):
        found.update(kind="folder")
    elif stat.S_ISREG(told.st_mode):
        with open(path, "rb") as stream:
            found.update(kind="file", sha256=hashlib.sha256(stream.read()).hexdigest())
    return found


def missing(packages):
    """Packages that are not installed, all of them where there is no dpkg."""
    try:
        argv = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"]
        told = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    except OSError:
        told = ""
    there = {line.split()[0] for line in told.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in there]


def package():
    """The version of the Debian package that is installed; empty where none is."""
    try:
        argv = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", "tercel"]
        told = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    except OSError:
        return ""
    status, _, version = told.partition(" ")
    return version if status == "installed" else ""


def kept(path, note="/var/lib/dpkg/info/tercel.list"):
    """The digest of the copy of what is installed. Empty where dpkg has unpacked something since the copy was made."""
    try:
        if os.stat(path).st_mtime_ns < os.stat(note).st_mtime_ns:
            return ""
    except OSError:
        return ""
    return file_at(path).get("sha256", "")


def users():
    """Whether the appliance's user is there."""
    try:
        pwd.getpwnam("tercel")
    except KeyError:
        return False
    return True


def rights(found):
    """Mode, owner and group."""
    return [found.get(key) for key in ("mode", "owner", "group")]


def wrong(folders):
    """Those of the folders that are not there, or otherwise."""
    found = [(told, file_at(told["path"])) for told in folders]
    return [told["path"] for told, there in found if there["kind"] != "folder" or rights(told) != rights(there)]


def releases(shipped, folder="/opt/tercel/releases"):
    """Releases that are there, the newest first: what each was made of, and which places hold other files than it has."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = []
    for name in sorted(names, key=lambda name: os.stat(os.path.join(folder, name)).st_mtime, reverse=True):
        here = os.path.join(folder, name)
        pairs = [(place, file_at(os.path.join(here, "share/tercel", source)), file_at(place)) for source, place in shipped]
        stale = [
            place
            for place, ours, theirs in pairs
            if ours.get("sha256") != theirs.get("sha256", "") or rights(theirs) != ["0644", "root", "root"]
        ]
        found.append({"name": name, "artifact": text_of(os.path.join(here, ".artifact")).strip(), "stale": stale})
    return found


asked = json.loads(sys.argv[1])
release = system()
print(
    json.dumps(
        {
            "machine": platform.machine(),
            "bits": 64 if sys.maxsize > 2**32 else 32,
            "like": [release.get("ID", ""), *release.get("ID_LIKE", "").split()],
            "system_name": release.get("PRETTY_NAME", platform.system()),
            "python": list(sys.version_info[:2]),
            "kernel": platform.release(),
            "uid": os.geteuid(),
            "types": os.path.exists("/sys/kernel/btf/vmlinux"),
            "ring_buffer": ring_buffer(),
            "lockdown": "[confidentiality]" in text_of("/sys/kernel/security/lockdown"),
            "systemd": os.path.isdir("/run/systemd/system"),
            "user": users(),
            "package": package(),
            "package_sha256": kept(asked.get("kept", "")),
            "room_mib": {path: room_mib(path) for path in asked.get("room", ())},
            "missing": missing(asked.get("packages", ())),
            "files": {path: file_at(path) for path in asked.get("files", ())},
            "wrong_folders": wrong(asked.get("folders", ())),
            "releases": releases(asked.get("shipped", ())),
        }
    )
)
