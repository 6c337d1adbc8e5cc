/* SPDX-License-Identifier: MIT */
/* The stub: write ACPI_RESET_VALUE to PORT_ACPI_RESET, then halt for good. */
#include "reset_vector.h"

#include "gmem.h"
#include "layout.h"

#define RESET_VECTOR UINT64_C(0xffff0)

int reset_vector_write(struct gmem *m)
{
	static const uint8_t code[] = {
		0xba, PORT_ACPI_RESET & 0xff, PORT_ACPI_RESET >> 8, /* mov dx, port */
		0xb0, ACPI_RESET_VALUE,				    /* mov al, value */
		0xee,						    /* out dx, al */
		0xf4,						    /* hlt */
		0xeb, 0xfd,					    /* jmp to the hlt */
	};

	return gmem_write(m, RESET_VECTOR, code, sizeof(code));
}
