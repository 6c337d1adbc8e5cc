/* SPDX-License-Identifier: MIT */
/* Numbers that the assembler and C share. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define SEL_CODE0 0x08
#define SEL_DATA0 0x10
#define SEL_CODE32 0x18
#define SEL_DATA3 (0x28 | 3)
#define SEL_CODE3 (0x30 | 3)
#define SEL_TSS 0x38

/* Below 1 MiB: where no loader keeps what we still need once main() runs. */
#define TSS_ADDRESS 0x3000
#define TSS_LIMIT (0x68 + 8192)	/* with an I/O permission bitmap that allows all ports */
#define AP_TRAMPOLINE 0x8000

#define AP_MAX 64
#define AP_STACK_SHIFT 12

#endif
