"""ctobserve: an eBPF observer of the kernel's connection tracking."""

__version__ = "0.2.0"
