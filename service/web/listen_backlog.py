"""Turn newcomers away from a listening socket without breaking off those whose handshake is done or under way.

The kernel resets whatever waits in a listening socket's queue when that is closed, and there is no call that empties
the queue and closes the socket in one step. A packet filter on the socket closes the gap: it drops new SYNs, so the
queue can be emptied first. Who is dropped knocks again after a second, and is refused or let in by the next process.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from contextlib import suppress

# linux/filter.h and asm-generic/socket.h; Python's socket module does not name it.
_SO_ATTACH_FILTER = 26
_LOAD_BYTE, _SKIP_UNLESS_SET, _RETURN = 0x30, 0x45, 0x06
_TCP_FLAGS_OFFSET, _SYN = 13, 0x02


class _Instruction(ctypes.Structure):
    """`struct sock_filter`: one step of a classic BPF program."""

    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


# The program sees a packet from its TCP header on; it returns how many bytes of it to keep.
_DROP_SYN = (_Instruction * 4)(
    _Instruction(_LOAD_BYTE, 0, 0, _TCP_FLAGS_OFFSET),
    _Instruction(_SKIP_UNLESS_SET, 0, 1, _SYN),
    _Instruction(_RETURN, 0, 0, 0),
    _Instruction(_RETURN, 0, 0, 0xFFFFFFFF),
)


def drop_new_handshakes(listener: socket.socket) -> None:
    """Let a listening socket take nobody new, in every process that shares it; elsewhere than on Linux do nothing."""
    if sys.platform != "linux":
        return
    program = _Program(len(_DROP_SYN), _DROP_SYN)
    # A kernel that takes no filters leaves a gap of microseconds; that is no reason to fail.
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
