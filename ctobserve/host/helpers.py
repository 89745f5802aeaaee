"""Connection tracking helpers that come with the kernel: where their protocols are spoken, and how much each may expect.

The kernel tells user space none of this: numbers are from the sources named (net/netfilter/, the same in Linux 5.10 to 6.12).
"""

from __future__ import annotations

from typing import NamedTuple

from ctobserve.host.kernel import has_module
from ctobserve.model import GRE, TCP, UDP


class Helper(NamedTuple):
    """One helper by the name that `ct helper` objects and `conntrack` call it.

    `port` is where its protocol's control connection goes, `module` has its code, `data` are protocols of the connections that
    it expects, `most` how many of each class a master may have waiting (struct nf_conntrack_expect_policy.max_expected): one more
    takes the place of the oldest (evict_oldest_expect). `broadcast`: it is for answers to a broadcast alone. `same_port`: what it
    expects comes to the port that the control connection came from.
    """

    name: str
    protonum: int
    port: int
    module: str
    data: tuple[int, ...]
    most: tuple[int, ...]
    broadcast: bool = False
    same_port: bool = False


HELPERS = (
    Helper("ftp", TCP, 21, "nf_conntrack_ftp", (TCP,), (1,)),  # nf_conntrack_ftp.c: ftp_exp_policy
    Helper("tftp", UDP, 69, "nf_conntrack_tftp", (UDP,), (1,), same_port=True),  # nf_conntrack_tftp.c: tftp_exp_policy
    Helper("irc", TCP, 6667, "nf_conntrack_irc", (TCP,), (8,)),  # nf_conntrack_irc.c: max_dcc_channels, a parameter
    Helper("sane", TCP, 6566, "nf_conntrack_sane", (TCP,), (1,)),  # nf_conntrack_sane.c: sane_exp_policy
    Helper("pptp", TCP, 1723, "nf_conntrack_pptp", (GRE,), (2,)),  # nf_conntrack_pptp.c: pptp_exp_policy
    Helper("amanda", UDP, 10080, "nf_conntrack_amanda", (TCP,), (4,)),  # nf_conntrack_amanda.c: amanda_exp_policy
    # nf_conntrack_sip.c: sip_exp_policy, for signalling, audio, video, image.
    Helper("sip", UDP, 5060, "nf_conntrack_sip", (UDP,), (1, 4, 4, 2)),
    Helper("sip", TCP, 5060, "nf_conntrack_sip", (UDP,), (1, 4, 4, 2)),
    # nf_conntrack_h323_main.c: ras_exp_policy, q931_exp_policy.
    Helper("RAS", UDP, 1719, "nf_conntrack_h323", (TCP, UDP), (32,)),
    Helper("Q.931", TCP, 1720, "nf_conntrack_h323", (TCP, UDP), (20,)),
    Helper("netbios-ns", UDP, 137, "nf_conntrack_netbios_ns", (UDP,), (1,), True, True),  # nf_conntrack_netbios_ns.c: exp_policy
    Helper("snmp", UDP, 161, "nf_conntrack_snmp", (UDP,), (1,), True, True),  # nf_conntrack_snmp.c: exp_policy
)


def loaded() -> frozenset[str]:
    """Names of those whose module is in this kernel. Without it no rule can assign one, and no `ct helper` object can be."""
    return frozenset(helper.name for helper in HELPERS if has_module(helper.module))
