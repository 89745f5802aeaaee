"""FTP in miniature: a control connection on which a client announces where it waits for the data."""

from __future__ import annotations

import socket

from ctobserve_lab.traffic import open_tcp, paired
from ctobserve_lab.world import Space

PORT = 21


class Session:
    """The control connection of one client, from both ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        for end in (client, server):
            end.settimeout(60)

    def say(self, command: str) -> None:
        """One line from the client."""
        self.client.sendall(f"{command}\r\n".encode())

    def hear(self) -> bytes:
        """The next line that comes to the server; raises TimeoutError where none does."""
        heard = b""
        while not heard.endswith(b"\r\n"):
            heard += self.server.recv(1)
        return heard

    def announce(self, port: int) -> None:
        """The client waits for the data at this port."""
        address = self.client.getsockname()[0].replace(".", ",")
        self.say(f"PORT {address},{port >> 8},{port & 255}")


def log_in(server: Space, client: Space, address: str, count: int = 1) -> list[Session]:
    """So many clients have named themselves: a helper reads what comes after a whole line."""
    *opened, listener = open_tcp(server, client, address, PORT, count)
    listener.close()  # others may log in later
    sessions = [Session(*ends) for ends in paired(opened)]
    for session in sessions:
        session.say("USER lab")
        session.hear()
    return sessions
