"""The hash is resized under load: every node moves, and nothing may be lost."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import send_udp

SIZES = (1024, 8192, 2048, 65536)


def play(stage: Stage) -> Play:
    """97 new entries between one resize and the next."""
    space = stage.space("resize")
    yield space
    refused = 0
    for at, size in enumerate(SIZES):
        stage.sysctl("nf_conntrack_buckets", size)
        refused += send_udp(space, 97, 20_000, source=f"127.0.1.{at + 1}")
    stage.say(f"{refused} of {97 * len(SIZES)} datagrams were refused while the hash had {len(SIZES)} sizes in turn")
    yield space
    stage.say(f"{send_udp(space, 97, 30_000)} of 97 datagrams were refused")


SCENARIO = Scenario(
    title="resize under load",
    symptom="nothing: the hash is resized under load, and nothing is lost",
    does="nf_conntrack_buckets is written 4 times while 388 datagrams make new entries.",
    expect="Nothing is lost: ctobserve verify proves the table it rebuilt from events equal to the kernel's, bucket by bucket.",
    play=play,
    look=("sysctl net.netfilter.nf_conntrack_buckets", "ip netns exec resize conntrack -C"),
    observe="verify",
)
