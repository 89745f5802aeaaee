"""FTP without its helper: the data connection is a new one, and a rule drops those."""

import errno
import socket
import time

from ctobserve_lab.errors import LabError
from ctobserve_lab.ftp import log_in
from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.world import Space

PORT = 7001
# The module is there as long as the object is; no rule uses it.
FIREWALL = """table inet firewall {
  ct helper ftp { type "ftp" protocol tcp; }
  chain input { type filter hook input priority 10; ct state established,related accept; meta l4proto tcp counter drop; }
}"""
COUNTED = "ip netns exec client nft list chain inet firewall input | grep -o 'packets [0-9]*'"
WAIT_S = 30


def play(stage: Stage) -> Play:
    """A client logs in and says where it waits; the server calls it from port 20."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    client.nft(FIREWALL)
    waiting = client.inside(lambda: socket.create_server((source, PORT)))
    client.sockets.append(waiting)
    waiting.settimeout(WAIT_S)
    yield client
    calling = called(server, client, (target, source))
    dropped(stage)
    calling.close()  # it would call again, and be dropped again before anybody has mended it
    stage.say("the client listed no file: the server's call was dropped")
    yield client
    client.sockets.append(called(server, client, (target, source)))
    client.sockets.append(waiting.accept()[0])
    stage.say("the server's call came through")


def called(server: Space, client: Space, ends: tuple[str, str]) -> socket.socket:
    """The server's end of the data connection that a client asks for who has just logged in."""
    target, source = ends
    (session,) = log_in(server, client, target)
    session.announce(PORT)
    session.hear()

    def call() -> socket.socket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((target, 20))
        one.setblocking(False)
        if (code := one.connect_ex((source, PORT))) != errno.EINPROGRESS:
            raise LabError(f"the server cannot call {source}:{PORT}: {errno.errorcode[code]}")
        return one

    return server.inside(call)


def dropped(stage: Stage) -> None:
    """Until the rule has counted a packet."""
    until = time.monotonic() + WAIT_S
    while stage.do(COUNTED) == "packets 0\n":
        if time.monotonic() > until:
            raise LabError("no packet came to the rule")
        time.sleep(0.1)


SCENARIO = Scenario(
    title="FTP without its helper",
    symptom="since a kernel upgrade active FTP logs in, and then lists nothing",
    does="A client behind a firewall of its own logs in to an FTP server, which calls it from port 20; the module is loaded.",
    expect="No rule assigns the helper, as Linux 6.0 and later want it: the call is NEW, not RELATED, and dropped by a rule.",
    play=play,
    expected=frozenset({"helper_missing"}),
    look=(
        "ip netns exec client conntrack -L -p tcp --dport 21 | grep -c helper=",
        COUNTED,
    ),
    fix=(
        """ip netns exec client nft 'add chain inet firewall out { type filter hook output priority filter; }'""",
        """ip netns exec client nft 'add rule inet firewall out tcp dport 21 ct helper set "ftp"'""",
    ),
    lines_mend=True,
)
