"""What was forbidden or switched off on a host is said in the words of the switch."""

from __future__ import annotations

import pytest

from ctobserve.host import restrictions


@pytest.fixture
def says(tmp_path, monkeypatch):
    """What the kernel's files say; those that are not given are not there."""
    for name in ("LOCKDOWN", "KPTR_RESTRICT", "FTRACE", "KPROBES"):
        monkeypatch.setattr(restrictions, name, tmp_path / name)

    def say(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)

    return say


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("[none] integrity confidentiality\n", None),
        ("", None),
    ],
)
def test_how_far_the_kernel_is_locked_down(says, text, level):
    assert restrictions.lockdown() is None, "no securityfs, or no such module"
    says(LOCKDOWN=text)
    assert restrictions.lockdown() == level


def test_why_root_reads_zeros_for_addresses(says):
    assert restrictions.hides_addresses() == "CAP_SYSLOG is missing; run as root outside the container"
    says(KPTR_RESTRICT="2\n")
    assert restrictions.hides_addresses().startswith("kernel.kptr_restrict is 2; ")
    assert restrictions.hides_addresses().endswith(": sysctl kernel.kptr_restrict=1")
    says(KPTR_RESTRICT="1\n")
    assert restrictions.hides_addresses().startswith("CAP_SYSLOG")


def test_probes_that_would_tell_nothing(says):
    assert restrictions.probes_off() is None
    says(FTRACE="1\n", KPROBES="1\n")
    assert restrictions.probes_off() is None
    says(KPROBES="0\n")
    remedy = f"echo 1 > {restrictions.KPROBES} (probes refused after that: reboot)"
    assert restrictions.probes_off() == f"all kprobes of this kernel are switched off; try: {remedy}"
    says(FTRACE="0\n")
    what, _, remedy = restrictions.probes_off().partition("; ")
    assert (what, remedy) == (
        "kernel.ftrace_enabled is 0, so no probe runs at a function's entry",
        "try: sysctl kernel.ftrace_enabled=1",
    )
