"""Run a command and say what it cost: its instructions, and the most memory that it had resident, in bytes.

Usage: alone.py COMMAND ... To the kernel the memory of whoever starts a process is the first that the process had
(setmax_mm_hiwater_rss in fs/exec.c): so a small process starts it, and not the one that measures.
"""

import os
import sys

nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere), 0)
print(round((used.ru_utime + used.ru_stime) * 1e9), used.ru_maxrss << 10)
sys.exit(os.waitstatus_to_exitcode(status))
