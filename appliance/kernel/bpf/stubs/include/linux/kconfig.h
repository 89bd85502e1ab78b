/* Stands in for the kernel's configuration: bcc asks only whether bpf() is there. */
#pragma once
#define CONFIG_BPF_SYSCALL 1
