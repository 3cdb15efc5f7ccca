"""Runs a command with little room to do harm: `python -I confine.py LIMITS COMMAND…`.

A script of its own, since limits must be set in the new process before the command takes its
place. LIMITS is JSON, see `evaluate.execution.Limits`. On Linux the command cannot open sockets,
signal other processes or write outside the folder it starts in; all that needs no privileges.
Sources: man 2 seccomp, man 7 landlock, the kernel's uapi headers.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
# machine → its number for the filter, and its numbers of socket, kill and ptrace.
MACHINES = {
    "x86_64": (0xC000003E, (41, 62, 101)),
    "aarch64": (0xC00000B7, (198, 129, 117)),
}
EVERYWHERE = (424, 425)
"""pidfd_send_signal and io_uring_setup, which would open sockets too."""
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, DENY, KILL = 0x7FFF0000, 0x00050001, 0x80000000
FOREIGN_CALLS = 0x40000000
"""Calls of x86_64's other table are numbered from here."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
# Landlock's rights to change files, by the version of the interface that has them.
WRITING = {1: 0b1_1111_1111_0010, 2: 1 << 13, 3: 1 << 14}
WRITE_FILE = 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)


def set_limits(cpu_seconds: int, memory: int, file_bytes: int) -> None:
    """Limits that the kernel keeps; the one on processes does not bind root."""
    for kind, most, last in (
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_NPROC, 1, 1),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        last = last if hard == resource.RLIM_INFINITY else min(last, hard)
        resource.setrlimit(kind, (min(most, last), last))


def deny_calls() -> bool:
    """Makes sockets, signals to others and tracing fail with EPERM; whether the kernel agreed."""
    if platform.machine() not in MACHINES:
        return False
    machine, own = MACHINES[platform.machine()]
    denied = (*own, *EVERYWHERE)
    steps = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0), (AT_LEAST, 0, 1, FOREIGN_CALLS), (RETURN, 0, 0, KILL),
    ]  # fmt: skip
    for place, number in enumerate(denied):
        steps.append((EQUAL, len(denied) - place, 0, number))
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, DENY)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(held))
    return bool(_libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.create_string_buffer(program)) == 0)


def landlock() -> int:
    """The version of the kernel's interface, below 1 where there is none."""
    return int(_libc.syscall(CREATE_RULESET, None, 0, 1))


def keep_writing_in(folder: str) -> bool:
    """Files change below `folder` only; whether the kernel agreed."""
    version = landlock()
    if version < 1:
        return False
    rights = sum(right for since, right in WRITING.items() if since <= version)
    rules = _libc.syscall(CREATE_RULESET, struct.pack("Q", rights), 8, 0)
    if rules < 0:
        return False
    for path, allowed in ((folder, rights), (os.devnull, WRITE_FILE)):
        place = os.open(path, os.O_PATH)
        _libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    agreed = _libc.syscall(RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return bool(agreed)


def main(limits: str, *command: str) -> None:
    """Becomes the command."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        keep_writing_in(os.getcwd())
        deny_calls()
    set_limits(**json.loads(limits))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
