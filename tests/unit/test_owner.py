"""Whose a process is, by its control groups as each runtime writes them: paths as they are found on hosts."""

from __future__ import annotations

import pytest

from ctobserve.host.owner import HOST, Owner, OwnerKind, Told, of_cgroups

ID, OTHER = "4fa6e0f0c678" + "0123" * 13, "9" * 64
UID = "7ba8a6f5-1f7a-4c1e-9d55-0c9b6f1c2d3e"
UNDERLINED = UID.replace("-", "_")
STATIC = "8a2e0f5ed6b0a5cb8d0c8f5f9a9f9a55"
POD = Owner(OwnerKind.POD, pod_uid=UID, container=ID)
CONTAINER = Owner(OwnerKind.CONTAINER, container=ID)


def machine(name: str) -> Owner:
    return Owner(OwnerKind.MACHINE, name)


def unit(name: str) -> Owner:
    return Owner(OwnerKind.UNIT, name)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        # Pods: containerd and CRI-O with systemd's driver, then cgroupfs.
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERLINED}.slice/cri-containerd-{ID}.scope", POD),
        (f"/kubepods.slice/kubepods-pod{UNDERLINED}.slice/crio-{ID}.scope", POD),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERLINED}.slice/crio-{ID}.scope/container", POD),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERLINED}.slice/docker-{ID}.scope", POD),
        (f"/kubepods/burstable/pod{UID}/{ID}", POD),
        (f"/kubepods/pod{UID}/{ID}", POD),
        (f"/custom.slice/kubepods/besteffort/pod{UID}/{ID}", POD),
        (f"/kubepods/burstable/pod{UID}", POD._replace(container=None)),
        (f"/kubepods/burstable/pod{STATIC}/{ID}", POD._replace(pod_uid=STATIC)),
        # kubelet was told of systemd's driver, and containerd was not.
        (f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDERLINED}.slice:cri-containerd:{ID}", POD),
        # kind: a node that is a container itself.
        (
            f"/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
            f"kubelet-kubepods-besteffort-pod{UNDERLINED}.slice/cri-containerd-{ID}.scope",
            POD,
        ),
        (f"/system.slice/docker-{OTHER}.scope/kubelet/kubepods/burstable/pod{UID}/{ID}", POD),
        # From within another control group namespace.
        (f"/../../kubepods-burstable-pod{UNDERLINED}.slice/cri-containerd-{ID}.scope", POD),
        (f"/../../pod{UID}/{ID}", POD),
        (f"/../{ID}", CONTAINER),
        (f"/../cri-containerd-{ID}.scope", CONTAINER),
        ("/..", None),
        # Containers of no pod.
        (f"/system.slice/docker-{ID}.scope", CONTAINER),
        (f"/docker/{ID}", CONTAINER),
        (f"/machine.slice/libpod-{ID}.scope/container", CONTAINER),
        (f"/libpod_parent/libpod-{ID}", CONTAINER),
        (f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope", CONTAINER),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", CONTAINER),
        (f"/system.slice/nerdctl-{ID}.scope", CONTAINER),
        (f"/default/{ID}", CONTAINER),
        (f"/docker/{ID}/docker/{OTHER}", CONTAINER),
        (f"/system.slice/docker-{ID}.scope (deleted)", CONTAINER),
        # Who watches over one lives beside it.
        (f"/machine.slice/libpod-conmon-{ID}.scope", unit(f"libpod-conmon-{ID}"[:61] + "...")),
        # LXC, LXD, Proxmox; systemd-nspawn, machined.
        ("/lxc.payload.web", machine("web")),
        ("/lxc.payload.web/system.slice/nginx.service", machine("web")),
        ("/lxc.payload/web", machine("web")),
        ("/lxc/101/ns/system.slice/nginx.service", machine("101")),
        ("/machine.slice/systemd-nspawn@my-box.service/payload/system.slice/nginx.service", machine("my-box")),
        ("/machine.slice/machine-my\\x2dbox.scope", machine("my-box")),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator", machine("qemu-1-vm")),
        (f"/lxc.payload.web/system.slice/docker-{ID}.scope", machine("web")._replace(container=ID)),
        # Units, the outermost.
        ("/system.slice/nginx.service", unit("nginx.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", unit("getty@tty1.service")),
        ("/system.slice/foo.service/payload/bar.service", unit("foo.service")),
        ("/user.slice/user-1000.slice/session-3.scope", unit("session-3.scope")),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", unit("user@1000.service")),
        # Nobody.
        ("/", None),
        ("/foo/bar", None),
        ("/lxc.monitor.web", None),
        (f"/podx{UID}/{ID[:63]}", None),
        (f"/kubepods/pod{UID[:-1]}/x", None),
        ("/lxc.payload.", None),
        ("", None),
    ],
)
def test_a_path_says_whose_it_is(path, owner):
    told = of_cgroups(f"0::{path}\n")
    assert told == (owner and Told(owner))
    assert told == of_cgroups(f"12:pids:/\n1:name=systemd:{path}\n0::/\n"), "as in a hybrid hierarchy"


def test_of_several_hierarchies_that_counts_which_says_most():
    lines = "3:cpu,cpuacct:/system.slice/kubelet.service", "2:pids:/docker/" + ID, f"1:name=systemd:/kubepods/pod{UID}/{ID}"
    assert of_cgroups("\n".join(lines)) == of_cgroups("\n".join(reversed(lines))) == Told(POD)


def test_no_lines_are_nobodys():
    for text in ("", "\n", "0", "0:", "x\n::\n", "0::/\n" * 14):
        assert of_cgroups(text) is None


@pytest.mark.parametrize("inner", [f"docker/{OTHER}", f"docker-{OTHER}.scope", f"kubepods/pod{STATIC}/{OTHER}"])
def test_who_lives_in_a_pod_does_not_become_another(inner):
    """He may make groups below, called as he likes; whose hostname he has is not known to be the pod's."""
    assert of_cgroups(f"0::/kubepods/pod{UID}/{ID}/{inner}\n") == Told(POD, nested=True)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/lxc.payload.\x1b[2J", r"\x1b[2J"),
        ("/lxc.payload.\udcff,\"'", "\\xff,\"'"),
        ("/machine.slice/machine-a\\x0ab\\x1b.scope", r"a\x0ab\x1b"),
        ("/lxc.payload." + "x" * 242, "x" * 61 + "..."),
        ("/system.slice/\u202e.service", r"\u202e.service"),
    ],
)
def test_names_of_others_pass_the_door(path, name):
    told = of_cgroups(f"0::{path}\n")
    assert told and told.owner.name == name and told.owner.label.isprintable()


def test_the_longest_and_deepest_paths_take_no_time():
    for deep in ("/" + "/".join(["a-" * 127] * 16), "/" + "pod" * 1365, "/" + "-" * 4095, "/" + "0" * 4095, "/lxc" * 1023):
        assert len(deep) <= 4096
        assert of_cgroups("".join(f"{at}:c:{deep}\n" for at in range(14))) in (None, Told(machine("lxc")))


@pytest.mark.parametrize(
    ("owner", "label"),
    [
        (HOST, "host"),
        (POD, f"pod/{UID}"),
        (POD._replace(name="web-7d9c"), "pod/web-7d9c"),
        (CONTAINER, "container/4fa6e0f0c678"),
        (machine("web"), "machine/web"),
        (unit("nginx.service"), "nginx.service"),
    ],
)
def test_what_text_calls_an_owner(owner, label):
    assert owner.label == label


def test_who_is_the_same():
    assert POD.identity == POD._replace(name="web", container=OTHER).identity, "however it was found"
    assert POD.identity != POD._replace(pod_uid=STATIC).identity
    names = {one.identity for one in (HOST, POD, CONTAINER, machine("web"), unit("web"), machine("web")._replace(container=ID))}
    assert len(names) == 5
