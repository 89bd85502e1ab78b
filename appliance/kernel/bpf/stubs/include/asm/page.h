/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The size of a page is given on the command line: arm64 kernels differ. */
#pragma once
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif
