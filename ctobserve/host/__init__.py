"""What this machine says of itself without BPF."""
