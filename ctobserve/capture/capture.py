"""The seam: what a command may know of conntrack on a host, whether it happens now or was recorded or is made up for a test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from ctobserve.capture.address_index import Addresses
from ctobserve.capture.extensions import Extensions
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.table import Lengths, Table
from ctobserve.clock import Clock
from ctobserve.event import Events
from ctobserve.host.account import Account
from ctobserve.host.addresses import Address
from ctobserve.host.counters import Reading
from ctobserve.host.dump import Dumped
from ctobserve.host.listing import Listed
from ctobserve.host.owner import Owner
from ctobserve.host.ruleset import Ruleset
from ctobserve.host.slab import Slab
from ctobserve.host.whose import Whose
from ctobserve.model import Entries, Expectations

T = TypeVar("T")
# Beside the kinds of records that were lost: what cannot be read of a recording, and seconds in which probes were switched off.
DAMAGED, PROBES_OFF = "damaged", "probes_off"


class Host(NamedTuple):
    """The machine, and what does not change while it is up. `here` is the inode number of the network namespace we are in.

    `limits_chains`: this kernel refuses entries where a chain is too long (None: it does not say). `trackers` are the protocol
    numbers that it has a tracker for, `security_contexts` names of secmarks as far as they can be known. `boot` is the random id
    of this boot.
    """

    release: str
    machine: str
    here: int
    limits_chains: bool | None = None
    trackers: frozenset[int] = frozenset()
    security_contexts: Mapping[int, str] = MappingProxyType({})
    boot: str | None = None


class Allocation(NamedTuple):
    """What a table is made of: memory of the machine, and the slab cache of its entries; None is what could not be read."""

    memory_bytes: int | None = None
    slab: Slab | None = None


class NamespaceState(NamedTuple):
    """One network namespace that can be entered. `names` are those of `ip netns`, `pid` is its first process.

    `sysctls` are those asked for, by full name (nf_conntrack_...), None where there is no number to be read; one that this kernel
    lacks is missing. `writable` are those that may be set in it: where not all were asked for, of these at most the limit.
    `ruleset` is None where nobody asked; `addresses` are asked for with it, and None also where the kernel does not tell.
    `not_entered` is the complaint of a namespace that could not be entered, of which nothing is known then; nobody needs to enter
    the one we are in. `owner` as in Whose.
    """

    inum: int
    label: str
    names: tuple[str, ...] = ()
    init: bool = False
    pid: int | None = None
    sysctls: Mapping[str, int | None] = MappingProxyType({})
    writable: frozenset[str] = frozenset()
    ruleset: Ruleset | None = None
    addresses: tuple[Address, ...] | None = None
    not_entered: str | None = None
    owner: Owner | None = None


class PacketCount(NamedTuple):
    """Packets that came by: inode number of the namespace, index of model.NF_HOOKS, conntrack state (enum ip_conntrack_info)."""

    netns: int
    hook: int
    state: int
    packets: int


class Expected(NamedTuple):
    """The expectations of namespaces that can be entered, read by NETLINK, or by PROC, which does not say whose they are.

    `helpers` are the kernel's own names of those (host/helpers.py) that are in this kernel, whether or not an entry has one.
    """

    rows: Expectations
    via: ReadVia
    helpers: frozenset[str]


class Snapshot(NamedTuple):
    """The table read once. `extensions` has a row for each of `entries`, or none when they were not asked for.

    `at_ns` is when it was read (CLOCK_MONOTONIC), `unread` counts buckets (of a listing: entries) that could not be read,
    `touched` are the addresses of entries that events touched from shortly before until the end of the reading.
    """

    entries: Entries
    extensions: Extensions
    buckets: int
    at_ns: int
    unread: int
    touched: Addresses


class Fidelity(NamedTuple):
    """How much was seen, and what makes it doubtful.

    `attach`: the form of the programs (fentry, kprobe), or walk where none hangs on a function. `read_via`: how the table
    is read, None where it is not. `seen` counts records, `seen_of` those of the one namespace that was asked for, `lost` those
    that did not come, by their kind, `unpaired` evictions whose begin or end stayed unseen.
    `read_ns` is when the table was read last, 0 = never; it was wrong for `uncertain_ns` in all. `recorded_in` is the file that
    this is read from, None where it happens now.
    """

    attach: str
    not_attached: tuple[str, ...] = ()
    read_via: str | None = None
    seen: int = 0
    seen_of: int | None = None
    lost: Mapping[str, int] = MappingProxyType({})
    unpaired: int = 0
    read_ns: int = 0
    uncertain_ns: int = 0
    unread: int = 0
    recorded_in: str | None = None


class HostView(Protocol):
    """What a host says of its connection tracking without a program in the kernel."""

    @property
    def host(self) -> Host:
        """The machine."""
        ...

    def allocation(self) -> Allocation:
        """Its memory, and what of it entries take now."""
        ...

    def names(self) -> Mapping[int, str]:
        """What text calls each network namespace that can be entered, by inode number."""
        ...

    def whose(self) -> Mapping[int, Whose]:
        """The same, and who owns each: by one look at the processes of this host."""
        ...

    def namespaces(
        self,
        sysctls: Collection[str] | None = (),
        among: Collection[int] | None = None,
        rules_of: Collection[int] = (),
    ) -> Mapping[int, NamespaceState]:
        """Those that can be entered, by inode number: all, or the first one and those `among` these.

        Each with these sysctls (None: with all nf_conntrack_*), those in `rules_of` with their addresses and their rule sets, for
        which a bounded time is spent in all.
        """
        ...

    def counters(self, only: int | None = None) -> Reading:
        """The kernel's own counters, of all namespaces or `only` of one."""
        ...

    def accounts(self, only: int | None = None) -> Mapping[int, Account]:
        """What each namespace that can be entered says beside its entries, by inode number, or `only` one."""
        ...

    def dumps(self, only: int | None = None) -> Mapping[int, Dumped] | None:
        """A netlink dump of each namespace that can be entered; None where nf_conntrack_netlink is not loaded."""
        ...

    def helped(self, among: Collection[int]) -> Mapping[int, Dumped] | None:
        """The entries of these namespaces that have a helper, with its name; None where nf_conntrack_netlink is not loaded.

        For each of them the kernel goes over the whole hash: only those with such entries are worth it.
        """
        ...

    def expectations(self, only: int | None = None) -> Expected:
        """Those of all namespaces, or `only` of one, as far as it is known whose they are.

        Raises CtobserveError where a recording ended before it had any.
        """
        ...

    def listing(self, inum: int, via: ReadVia) -> Iterator[Listed]:
        """The entries of one namespace as the kernel lists them, by PROC or NETLINK, without a program.

        Raises OSError or KernelLacks as host/listing.py does, the former also while entries are taken; CtobserveError where the
        namespace cannot be entered.
        """
        ...

    def wall_ns(self) -> int:
        """Now, nanoseconds since 1970."""
        ...


class Capture(HostView, Protocol):
    """One view of conntrack on one host over one stretch of time.

    `table` is true from `follow` on: it has the entries of all events that `step` has told, and of those it holds back.
    """

    started: Clock

    @property
    def table(self) -> Table:
        """As events have made it."""
        ...

    @property
    def buckets(self) -> int:
        """Size of the hash when it was read last."""
        ...

    @property
    def uncertain_ns(self) -> int:
        """How long in all the table was wrong because records were lost, until it was read again."""
        ...

    @property
    def repairs(self) -> int:
        """How often the table was read again, because records were lost or the hash was resized."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more will come: nf_conntrack was unloaded, the recording is at its end."""
        ...

    def clock(self) -> Clock:
        """Now, on all clocks."""
        ...

    def now_ns(self) -> int:
        """Now, CLOCK_MONOTONIC."""
        ...

    def wait(self, seconds: float) -> None:
        """Let that much time pass."""
        ...

    def follow(self) -> None:
        """Read the kernel's table, or read it again; events keep it true.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        ...

    def step(self) -> Events:
        """What came since the last call, in the kernel's order; repairs the table now and then. Never blocks.

        A victim of early_drop is held back until the tuple is known that it made room for, a second at most.
        """
        ...

    def drain(self) -> Events:
        """The same with all that is held back; nothing is repaired, so that what was read before is of the same table."""
        ...

    def settle(self) -> None:
        """Repair the table now where records were lost or the hash was resized; `step` does so once a second."""
        ...

    def cease(self) -> None:
        """From now on events keep the table true, and `step` tells none any more."""
        ...

    def snapshot(self, extensions: bool = False) -> Snapshot:
        """The kernel's table read once, beside the one that is followed; raises as `follow`."""
        ...

    def lengths(self) -> Lengths:
        """The lengths of all chains now; raises as `follow`."""
        ...

    def chain(self, bucket: int) -> Entries:
        """The entries with a node in this bucket now."""
        ...

    def aside(self, function: Callable[[], T]) -> T:
        """Result of a function that takes its time and asks this capture nothing; events are not lost meanwhile."""
        ...

    def packets(self) -> list[PacketCount]:
        """Packets by state since the start, where the capture counts them."""
        ...

    def fidelity(self) -> Fidelity:
        """How true this view is so far."""
        ...
