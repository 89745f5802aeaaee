/* SPDX-License-Identifier: GPL-2.0 */
/*
 * clock.c - what time is it in jiffies, the unit of an entry's timeout?
 *
 * Hooks:     none: run by BPF_PROG_TEST_RUN; its result is the low half of jiffies64
 * Emits:     nothing
 * Kernels:   5.10 - 7.3
 * Cost:      none to traffic
 * Blind to:  nothing
 * Tested by: tests/kernel/test_entries.py
 */

int clock(u64 *args)
{
	return bpf_jiffies64();
}
