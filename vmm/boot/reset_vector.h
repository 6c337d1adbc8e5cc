/* SPDX-License-Identifier: MIT */
/* reset_vector.h - all the firmware there is: a real-mode stub at F000:FFF0 that resets. */
#ifndef HV_VMM_BOOT_RESET_VECTOR_H
#define HV_VMM_BOOT_RESET_VECTOR_H

struct gmem;

/**
 * reset_vector_write - put the stub at the BIOS entry point
 *
 * Under hardware-reduced ACPI Linux prefers EFI's reset, and where there is no EFI falls
 * back to a jump to the BIOS in real mode: there has to be something that resets. Main
 * thread, before entry. Return: 0 or -EFAULT.
 */
int reset_vector_write(struct gmem *m);

#endif
