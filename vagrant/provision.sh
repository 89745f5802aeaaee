#!/usr/bin/env bash
# Make this machine a lab: ctobserve and ctobserve-lab installed as the README says, conntrack loaded, now and after a reboot.
# May run again at any time. Runs as root in the machine, of which it takes all for granted: it marks it as one to be hurt.
set -eu
export DEBIAN_FRONTEND=noninteractive
if ! command -v make > /dev/null; then
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends make
fi
make --no-print-directory -C /opt/ctobserve tool VENV=/opt/ctobserve-venv
ln -sf /opt/ctobserve-venv/bin/ctobserve /opt/ctobserve-venv/bin/ctobserve-lab /usr/local/bin
printf '%s\n' nf_conntrack nf_conntrack_netlink > /etc/modules-load.d/ctobserve-lab.conf
modprobe -a nf_conntrack nf_conntrack_netlink
echo 'incidents may be made here' > /etc/ctobserve-lab
ctobserve-lab list
