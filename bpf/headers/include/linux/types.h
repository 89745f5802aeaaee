/* SPDX-License-Identifier: GPL-2.0 - bcc includes this name; what it needs is in linux/kconfig.h */
