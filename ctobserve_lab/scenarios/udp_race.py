"""The DNS race: two first packets of one flow at the same instant, as a resolver sends that asks for A and AAAA at once."""

from ctobserve_lab.errors import LabError
from ctobserve_lab.race import FIRST_PORT
from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound, race
from ctobserve_lab.world import Space

TRIES = 20
FLOWS = 83


def play(stage: Stage) -> Play:
    """83 flows at a time, until two packets have met."""
    space = stage.space("race")
    # Somebody listens: an ICMP error about a packet that is not tracked would be INVALID, and another incident.
    ports = range(FIRST_PORT + 1, FIRST_PORT + 1 + FLOWS)
    space.sockets += space.inside(lambda: [bound("127.0.0.1", port) for port in ports])
    yield space
    for _ in range(TRIES):
        if met := meetings(space):
            break
        space.run("conntrack", "-F")
    else:
        raise LabError(f"in {TRIES} tries no two packets met")
    stage.say(f"of 166 datagrams, sent two at a time, {met} met their twin inside conntrack")
    yield space
    stage.say(f"of 166 datagrams, sent two at a time, {meetings(space)} met their twin inside conntrack")


def meetings(space: Space) -> int:
    """How many clashes the kernel resolves in 83 flows."""
    before = space.counters()["clash_resolve"]
    race(space, "127.0.0.1", FLOWS)
    return space.counters()["clash_resolve"] - before


SCENARIO = Scenario(
    title="UDP clash (the DNS race)",
    symptom="one name lookup in many takes 5 seconds",
    does="Two processes send the first packet of a flow over one socket at the same instant, 83 times, until two have met.",
    expect="Both packets made an entry; the second is merged into the first's, and clash_resolve counts it. NAT may lose it.",
    play=play,
    notices=frozenset({"clash_race"}),
    look=("ip netns exec race conntrack -S | grep -o ' clash_resolve=[1-9][0-9]*'",),
    fix=(
        "ip netns exec race nft add table ip raw",
        "ip netns exec race nft 'add chain ip raw out { type filter hook output priority raw; }'",
        "ip netns exec race nft add rule ip raw out udp dport 20001-20083 notrack",
    ),
)
