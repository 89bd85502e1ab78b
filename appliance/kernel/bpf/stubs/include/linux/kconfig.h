/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stands in for the kernel's configuration: bcc asks only whether bpf() is there. */
#pragma once
#define CONFIG_BPF_SYSCALL 1
