"""A reader of an NFQUEUE that hangs: it takes packets and never gives a verdict. To be run inside the namespace, as root."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys

NETLINK_NETFILTER = 12
NLMSG_ERROR = 2
REQUEST_ACK = 5  # NLM_F_REQUEST | NLM_F_ACK
CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
CMD, PARAMS = 1, 2  # NFQA_CFG_CMD, NFQA_CFG_PARAMS (enum nfqnl_attr_config)
BIND = struct.pack("!BxH", 1, socket.AF_INET)  # struct nfqnl_msg_config_cmd: NFQNL_CFG_CMD_BIND
COPY_META = struct.pack("!IB", 0, 1)  # struct nfqnl_msg_config_params: NFQNL_COPY_META


def main(queue: int) -> None:
    """Bind the queue, say so in a line, and sleep until a signal ends it: what waits for a verdict is dropped then."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as reader:
        # The kernel gives it our process id as its port id, as it does to any process's first socket.
        reader.bind((0, 0))
        for kind, value in ((CMD, BIND), (PARAMS, COPY_META)):
            _configure(reader, queue, kind, value)
        sys.stdout.write("holding\n")
        sys.stdout.flush()
        signal.pause()


def _configure(reader: socket.socket, queue: int, kind: int, value: bytes) -> None:
    attribute = struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, queue) + attribute
    reader.send(struct.pack("=IHHII", len(body) + 16, CONFIG, REQUEST_ACK, 0, 0) + body)
    answer = reader.recv(1 << 16)
    (message,), (number,) = struct.unpack_from("=H", answer, 4), struct.unpack_from("=i", answer, 16)
    if message != NLMSG_ERROR or number:
        sys.exit(f"queue {queue}: {os.strerror(-number)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
