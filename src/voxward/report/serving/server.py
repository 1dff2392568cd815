"""A server in threads of its own, from its start to its end."""

from __future__ import annotations

import errno
import os
import socket
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any

from voxward.core.errors import UserError
from voxward.report.serving.access import Access
from voxward.report.serving.files import Served
from voxward.report.serving.handler import PATIENCE, handler_for

CONNECTIONS = 32
"""How many connections are answered at once; a browser opens six."""

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAULTS = {
    errno.EADDRINUSE: "another program uses it: choose another --port, or leave it out for any free one",
    errno.EACCES: "that needs the rights of the system's administrator: choose a --port from 1024 on",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another --host",
}


class _Server(ThreadingMixIn, TCPServer):
    """Answers each connection in a thread of its own, and no more than so many at once.

    It is no `http.server.HTTPServer`, which asks the network for the name of this machine when it starts.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    # Elsewhere this lets a port be used again at once after a server has ended. On Windows it would let another program
    # take the port from this one.
    allow_reuse_address = os.name != "nt"

    def __init__(self, access: Access, served: Served, port: int, connections: int, patience: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        self.free = BoundedSemaphore(connections)
        super().__init__((access.host, port), handler_for(served, access, patience))

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.free.acquire(blocking=False):
            request.settimeout(1.0)
            try:
                request.sendall(_BUSY)
            finally:
                self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives out no more threads
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that broke off alone: the others go on."""


class Serving:
    """A server that runs, in threads of its own, until it is closed or the program ends.

    Attributes:
        url: The address for a browser, with the token if there is one.

    Example:
        >>> with voxward.serve("report.html") as serving:
        ...     print(serving.url)
        ...     serving.wait()
    """

    def __init__(self, served: Served, access: Access, port: int = 0, patience: float = PATIENCE) -> None:
        """Begin to listen.

        Args:
            served: The files.
            access: Who may ask, and where the server listens.
            port: The port; 0 takes any free one.
            patience: Seconds in which a request must have arrived.

        Raises:
            UserError: The port or the address cannot be had.
        """
        if not 0 <= port <= 65535:
            raise UserError(f"port must be 0 (any free one) to 65535, got {port}")
        try:
            self._server = _Server(access, served, port, CONNECTIONS, patience)
        except (OSError, UnicodeError) as error:
            fault = _FAULTS.get(getattr(error, "errno", None) or 0)
            if isinstance(error, (socket.gaierror, UnicodeError)):
                fault = _FAULTS[errno.EADDRNOTAVAIL]
            if fault is None:
                raise
            raise UserError(f"cannot listen on port {port} of {access.host}: {fault}") from error
        self.port: int = self._server.server_address[1]
        query = "" if access.token is None else f"?token={access.token}"
        self.url = f"http://{_shown(access.host)}:{self.port}/{query}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="voxward serve", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the server is closed, or Ctrl-C is pressed, which raises KeyboardInterrupt."""
        while self._thread.is_alive():
            self._thread.join(1.0)  # Windows hears Ctrl-C only between two of these

    def close(self) -> None:
        """End the server."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _shown(host: str) -> str:
    """The host as a browser of this machine takes it; one that listens on all addresses is called by its name."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
