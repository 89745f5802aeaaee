/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kconfig.h - the few kernel names that bcc's own headers need
 *
 * bcc force-includes this file first. With it, and the empty files beside it, bcc compiles our programs on a host without
 * kernel headers: we read kernel objects by BTF offset and use no kernel type but the registers of bpf/arch.
 */
#ifndef CTOBSERVE_KCONFIG_H
#define CTOBSERVE_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1
#define LINUX_VERSION_CODE 0x7fffffff
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define PAGE_SIZE 4096 /* bcc's unit for the size that a ring is declared with; the kernel's pages may be larger */
#define __always_inline inline __attribute__((always_inline))
#define NULL ((void *)0)
#define true 1
#define false 0

typedef unsigned char __u8, u8;
typedef signed char __s8, s8;
typedef unsigned short __u16, u16, __be16, __le16, __sum16;
typedef signed short __s16, s16;
typedef unsigned int __u32, u32, __be32, __le32, __wsum;
typedef signed int __s32, s32;
typedef unsigned long long __u64, u64, __be64, __le64;
typedef signed long long __s64, s64;
typedef unsigned long size_t, uintptr_t;
typedef _Bool bool;
typedef __u64 __aligned_u64 __attribute__((aligned(8)));

#endif
