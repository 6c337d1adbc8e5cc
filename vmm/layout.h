/* SPDX-License-Identifier: MIT */
/*
 * layout.h - the guest-physical memory map and the I/O ports, in one place.
 *
 *   0         ... RAM, up to LAYOUT_RAM_LOW_END (the EBDA..1 MiB range is reserved in e820)
 *   3 GiB     ... 32-bit PCI window for BARs
 *   0xe0000000    ECAM: 1 MiB for bus 0
 *   0xfec00000    I/O APIC, 0xfee00000 local APICs, 0xfffbc000 KVM's identity map and TSS
 *   4 GiB     ... the rest of RAM
 */
#ifndef HV_VMM_LAYOUT_H
#define HV_VMM_LAYOUT_H

#include "hv/base.h"

#define LAYOUT_RAM_LOW_END UINT64_C(0xc0000000)
#define LAYOUT_PCI_MMIO_BASE UINT64_C(0xc0000000)
#define LAYOUT_PCI_MMIO_SIZE UINT64_C(0x20000000)
#define LAYOUT_ECAM_BASE UINT64_C(0xe0000000)
#define LAYOUT_ECAM_SIZE MIB(1)		/* bus 0 only */
#define LAYOUT_IOAPIC_BASE UINT64_C(0xfec00000)
#define LAYOUT_LAPIC_BASE UINT64_C(0xfee00000)
#define LAYOUT_KVM_IDENTITY UINT64_C(0xfffbc000)
#define LAYOUT_KVM_TSS UINT64_C(0xfffbd000)
#define LAYOUT_RAM_HIGH_BASE GIB(4)

/* What vmm writes below 1 MiB before entry; all of it outside what a kernel takes as free. */
#define LAYOUT_GDT UINT64_C(0x500)
#define LAYOUT_ZERO_PAGE UINT64_C(0x7000)	/* boot_params of a bzImage */
#define LAYOUT_PVH_INFO UINT64_C(0x6000)
#define LAYOUT_PAGE_TABLES UINT64_C(0x9000)	/* PML4 and down, identity for 4 GiB */
#define LAYOUT_CMDLINE UINT64_C(0x20000)
#define LAYOUT_CMDLINE_MAX 4096
#define LAYOUT_EBDA UINT64_C(0x9fc00)
#define LAYOUT_RSDP UINT64_C(0xe0000)		/* found by scanning 0xe0000..0xfffff too */
#define LAYOUT_ACPI_TABLES UINT64_C(0xe0100)
#define LAYOUT_ACPI_END UINT64_C(0xf0000)
#define LAYOUT_SMBIOS UINT64_C(0xf0000)
#define LAYOUT_SMBIOS_END UINT64_C(0x100000)
#define LAYOUT_KERNEL_MIN MIB(1)

/* I/O ports. */
#define PORT_I8042_DATA 0x60
#define PORT_I8042_CMD 0x64
#define PORT_RTC 0x70
#define PORT_DEBUG_EXIT 0xf4
#define PORT_COM1 0x3f8
#define PORT_PVPANIC 0x505
#define PORT_ACPI_SLEEP_CTL 0x600
#define PORT_ACPI_SLEEP_STS 0x601
#define PORT_ACPI_RESET 0x602
#define PORT_GED 0x610		/* 4 bytes: pending events, write 1 to clear */
#define PORT_PCI_ADDR 0xcf8
#define PORT_PCI_DATA 0xcfc

#define ACPI_SLEEP_TYPE_S5 5	/* what \_S5 names; written to the sleep control register */
#define ACPI_RESET_VALUE 1

/* Interrupt lines (GSI = I/O APIC pin), all edge-triggered. */
#define GSI_COM1 4
#define GSI_RTC 8
#define GSI_GED 9
#define GSI_MSI_BASE 24		/* first GSI that has no I/O APIC pin: MSI routes from here */

#endif
