#!/usr/bin/env bash
# The whole round on one machine without KVM and without a download of boxes: a box made from Debian packages, vagrant up, provisioning,
# three incidents, vagrant destroy. Some 15 minutes, most of them emulation. As root, on Debian 12 for amd64. Usage: round.sh [WORKDIR]
# The daemons of libvirt live in a network and mount namespace of their own: no bridge, rule or sysctl of this machine changes.
set -eu -o pipefail
if [ "$(uname -m)" != x86_64 ]; then
	echo "round.sh: the box it makes is of amd64, and this machine is $(uname -m); vagrant up takes arm64 boxes from elsewhere" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
export DEBIAN_FRONTEND=noninteractive VAGRANT_CHECKPOINT_DISABLE=1
export VAGRANT_HOME=$work/home VAGRANT_DOTFILE_PATH=$work/dot
pids=()

step() { printf '== %4d s  %s\n' "$SECONDS" "$*"; }

packages() {
	echo systemd-sysv udev dbus openssh-server sudo rsync ifupdown isc-dhcp-client netbase ca-certificates initramfs-tools grub-pc
	echo linux-image-amd64 make
	awk '!/^#/ && / tool/ { print $1 }' "$here/../packages.apt"
}

unmount() {
	[ -n "${loop:-}" ] || return 0
	for place in proc sys dev ''; do
		mountpoint -q "$work/root/$place" && umount "$work/root/$place"
	done
	partx -d "$loop" || true
	losetup -d "$loop"
	loop=
}

configure_root() {
	local uuid
	uuid=$(blkid -s UUID -o value "${loop}p1")
	echo "UUID=$uuid / ext4 errors=remount-ro 0 1" > etc/fstab
	printf '%s\n' 'source /etc/network/interfaces.d/*' 'auto lo' 'iface lo inet loopback' 'allow-hotplug eth0' \
		'iface eth0 inet dhcp' > etc/network/interfaces
	echo 'GRUB_TIMEOUT=0' >> etc/default/grub
	echo 'GRUB_CMDLINE_LINUX="net.ifnames=0 biosdevname=0 console=tty0 console=ttyS0,115200 mitigations=off"' >> etc/default/grub
	: > etc/machine-id
	echo 'UseDNS no' >> etc/ssh/sshd_config
	for timer in apt-daily apt-daily-upgrade man-db fstrim e2scrub_all; do
		ln -sf /dev/null "etc/systemd/system/$timer.timer"
	done
	chroot . ssh-keygen -A
	chroot . useradd -m -s /bin/bash vagrant
	echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > etc/sudoers.d/vagrant
	install -d -m 700 home/vagrant/.ssh
	install -m 600 "$(find /usr/share -path '*keys/vagrant.pub' | head -1)" home/vagrant/.ssh/authorized_keys
	chroot . chown -R vagrant: /home/vagrant/.ssh
	chroot . grub-install --target=i386-pc --modules='part_msdos ext2' "$loop"
	chroot . update-grub
	# On a loop device update-grub takes that for the root.
	sed -i "s#root=/dev/loop[0-9]*p1#root=UUID=$uuid#" boot/grub/grub.cfg
}

make_box() {
	local list
	list=$(packages | tr -s ' \n' ',')
	mmdebstrap --quiet --variant=minbase --include="${list%,}" --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/root.tar"
	step "packages unpacked"
	truncate -s 8G "$work/box.raw"
	echo '2048,,L,*' | sfdisk --quiet --label dos "$work/box.raw"
	loop=$(losetup -f --show "$work/box.raw")
	partx -u "$loop"
	mkfs.ext4 -q "${loop}p1"
	mkdir -p "$work/root"
	mount "${loop}p1" "$work/root"
	tar -xpf "$work/root.tar" -C "$work/root" --numeric-owner --exclude='./dev/*'
	mount --bind /dev "$work/root/dev"
	mount -t proc proc "$work/root/proc"
	mount -t sysfs sysfs "$work/root/sys"
	(cd "$work/root" && configure_root) > "$work/configure.log" 2>&1
	unmount
	qemu-img convert -c -O qcow2 "$work/box.raw" "$work/box.img"
	echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' > "$work/metadata.json"
	# What only an emulated machine needs stays out of the project's Vagrantfile.
	cat > "$work/Vagrantfile" <<-'BOX'
		Vagrant.configure("2") do |config|
		  config.vm.provider(:libvirt) do |libvirt|
		    libvirt.driver = "qemu"
		    libvirt.cpu_mode = "custom"
		    libvirt.cpu_model = "qemu64"
		    libvirt.uri = "qemu:///system"
		  end
		end
	BOX
	tar -czf "$work/lab.box" -C "$work" metadata.json Vagrantfile box.img
	rm -f "$work/root.tar" "$work/box.raw" "$work/box.img"
}

start_daemons() {
	mkdir -p "$work/cgroup"
	setsid unshare -n -m bash -c "mount --make-rprivate /; mount --rbind /sys/fs/cgroup '$work/cgroup'; mount -t sysfs sysfs /sys
		mount --rbind '$work/cgroup' /sys/fs/cgroup; ip link set lo up; echo \$\$ > '$work/space.pid'; exec sleep infinity" > "$work/daemons.log" 2>&1 &
	while [ ! -s "$work/space.pid" ]; do sleep 0.1; done
	pids+=("$(cat "$work/space.pid")")
	for daemon in virtlogd libvirtd; do
		inside "$daemon" -d -p "$work/$daemon.pid" >> "$work/daemons.log" 2>&1
		pids+=("$(cat "$work/$daemon.pid")")
	done
}

inside() { nsenter --wd="$here" -n -m -t "${pids[0]:-$(cat "$work/space.pid")}" -- "$@"; }

tidy() {
	trap - EXIT
	unmount
	if [ ${#pids[@]} -gt 0 ]; then
		inside vagrant destroy -f || true
		inside virsh vol-list default 2>/dev/null | awk '/_vagrant_box_image_/ { print $1 }' | while read -r volume; do
			inside virsh vol-delete --pool default "$volume"
		done || true
		for ((at = ${#pids[@]} - 1; at >= 0; at--)); do kill "${pids[at]}" || true; done
	fi
	rm -rf "$work/home" "$work/dot" "$work/space.pid"
}

"$here/../tests/vm/apt-install" host round
trap tidy EXIT
if [ ! -e "$work/lab.box" ]; then
	step "making a box"
	make_box
	step "the box is $(du -m "$work/lab.box" | cut -f1) MiB"
fi
start_daemons
inside vagrant box add --name debian/bookworm64 "$work/lab.box"
step "vagrant up"
inside vagrant up --provider=libvirt --no-tty
step "vagrant provision, a second time"
inside vagrant provision
for name in table_full snat_ports flush; do
	step "guide $name"
	inside vagrant ssh -c "sudo ctobserve-lab guide $name"
done
step "vagrant destroy"
inside vagrant destroy -f
step "done"
