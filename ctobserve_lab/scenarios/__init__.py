"""All scenarios, in the order in which a guide tells them."""

from ctobserve_lab.scenario import Scenario
from ctobserve_lab.scenarios import (
    asymmetric_routing,
    early_drop,
    few_buckets,
    flush,
    greedy_namespace,
    greedy_source,
    hairpin,
    healthy,
    idle_established,
    long_chains,
    old_tcp_mapping,
    old_udp_mapping,
    one_side_speaks,
    one_way_udp,
    outside_window,
    resize,
    scan,
    snat_ports,
    stale_udp,
    syn_flood,
    table_filling,
    table_full,
    udp_race,
    unneeded,
)

SCENARIOS: dict[str, Scenario] = {
    module.__name__.rpartition(".")[2]: module.SCENARIO
    for module in (
        healthy,
        table_full,
        table_filling,
        early_drop,
        long_chains,
        few_buckets,
        udp_race,
        snat_ports,
        stale_udp,
        old_udp_mapping,
        old_tcp_mapping,
        one_way_udp,
        hairpin,
        outside_window,
        asymmetric_routing,
        one_side_speaks,
        syn_flood,
        scan,
        greedy_source,
        greedy_namespace,
        idle_established,
        unneeded,
        resize,
        flush,
    )
}
