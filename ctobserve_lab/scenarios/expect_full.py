"""The expectation table is full: who announces a data connection loses the packet that does."""

from ctobserve_lab.ftp import log_in
from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage

CLIENTS, ROOM = 8, 3
HELPER = """table inet assigned {
  ct helper ftp { type "ftp" protocol tcp; }
  chain pre { type filter hook prerouting priority filter; tcp dport 21 ct helper set "ftp"; }
}"""


def play(stage: Stage) -> Play:
    """8 clients of an FTP server, and room for 3 expectations."""
    server, client = stage.space("server"), stage.space("client")
    target, _ = stage.net.link(server, client)
    server.nft(HELPER)
    sessions = log_in(server, client, target, CLIENTS)
    stage.sysctl("nf_conntrack_expect_max", ROOM)
    yield server
    for at, session in enumerate(sessions):
        session.announce(7001 + at)
    heard = [session.hear() for session in sessions[:ROOM]]
    stage.say(f"{len(heard)} of {CLIENTS} clients were heard; the others say it again and again")
    yield server
    for at, session in enumerate(sessions):
        session.announce(7101 + at)
    heard = [session.hear() for session in sessions]
    stage.say(f"{len(heard)} of {CLIENTS} clients were heard")


SCENARIO = Scenario(
    title="expectation table full",
    symptom="FTP sessions hang after the login when there are many of them",
    does="8 FTP clients announce where they wait for their data, and nf_conntrack_expect_max has room for 3.",
    expect="3 are expected, the packets of the other 5 are dropped; no counter moves, and the kernel's log says so a few times.",
    play=play,
    expected=frozenset({"expect_full"}),
    look=(
        "ip netns exec server conntrack -L expect | wc -l",
        "sysctl net.netfilter.nf_conntrack_expect_max",
        "dmesg | grep -o 'nf_conntrack: expectation table full' | tail -1",
    ),
    fix=("sysctl -w net.netfilter.nf_conntrack_expect_max=256",),
    lines_mend=True,
)
