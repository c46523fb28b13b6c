"""Listening sockets of an HAProxy, kept open beside it: while it is dead, connections queue instead of being refused.

HAProxy hands its listening sockets to a successor over its control socket, so that a reload refuses nobody. The
successor of one that was killed has nobody to ask. So whoever starts HAProxy asks for the sockets, too, and hands them
on. The conversation is HAProxy's own (``-x``, ``expose-fd listeners``): the word ``_getsocks``, then the number of
sockets, then the sockets with a description that is passed on unread, each message of them acknowledged by the number
received so far.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUESTION = b"_getsocks"
_COUNT = struct.Struct("i")
_MAX_BYTES = 65_536
_MAX_SOCKETS = 253
"""In one message; the kernel's limit."""

TIMEOUT_SECONDS = 5.0
"""For each step of the conversation, and for a successor to ask."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Sockets as HAProxy handed them over.

    Attributes
    ----------
    messages : list of (bytes, list of int)
        Description and file descriptors of each message.
    """

    messages: list[tuple[bytes, list[int]]]

    @classmethod
    def of(cls, control_socket: str) -> Self:
        """Those of the HAProxy behind a control socket; they stay open until :meth:`close`.

        Raises
        ------
        PlatformError
            It does not answer, or not so.
        """
        messages: list[tuple[bytes, list[int]]] = []
        n = 0
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(TIMEOUT_SECONDS)
                line.connect(control_socket)
                line.sendall(_QUESTION + b"\n")
                (wanted,) = _COUNT.unpack(line.recv(_COUNT.size, socket.MSG_WAITALL))
                while n < wanted:
                    description, handles, _, _ = socket.recv_fds(line, _MAX_BYTES, _MAX_SOCKETS)
                    if not handles:
                        raise ConnectionError
                    messages.append((description, handles))
                    n += len(handles)
                    line.sendall(_COUNT.pack(n))
        except (OSError, struct.error) as error:
            cls(messages).close()
            raise PlatformError(Fault("HAProxy", f"does not hand over its sockets ({type(error).__name__})")) from error
        return cls(messages)

    @contextlib.contextmanager
    def offered(self, path: str) -> Iterator[None]:
        """Hand them to whoever asks first at a socket, while the block runs."""
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(path)
            door.listen(1)
            door.settimeout(TIMEOUT_SECONDS)
            thread = threading.Thread(target=self._answer, args=(door,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # wakes the thread if nobody came
                    door.shutdown(socket.SHUT_RDWR)
                thread.join()
                Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of them."""
        for _, handles in self.messages:
            for handle in handles:
                with contextlib.suppress(OSError):
                    os.close(handle)
        self.messages.clear()

    def _answer(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            line, _ = door.accept()
            with line:
                line.settimeout(TIMEOUT_SECONDS)
                if not line.recv(_MAX_BYTES).startswith(_QUESTION):
                    return
                line.sendall(_COUNT.pack(sum(len(handles) for _, handles in self.messages)))
                for description, handles in self.messages:
                    socket.send_fds(line, [description], handles)
                    line.recv(_COUNT.size)
