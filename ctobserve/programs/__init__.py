"""The BPF side: hooks, compiled programs, system calls, attachment, the ring."""
