/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Only kprobe programs carry a version, and we load none. */
#pragma once
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
#endif
