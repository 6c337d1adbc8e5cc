/* SPDX-License-Identifier: MIT */
/*
 * aml.h - write ACPI Machine Language into a fixed buffer (ACPI 6.4, chapter 20).
 *
 * Blocks are opened and closed in pairs. An overflow is remembered, not reported at
 * each call: check aml_ok() once at the end.
 */
#ifndef HV_VMM_BOOT_AML_H
#define HV_VMM_BOOT_AML_H

#include "hv/base.h"

#define AML_DEPTH_MAX 8

struct aml {
	uint8_t *buf;
	size_t cap, len;
	bool overflow;
	unsigned depth;
	size_t block[AML_DEPTH_MAX];	/* where each open block's PkgLength stands */
};

enum aml_local { AML_LOCAL0 = 0x60, AML_LOCAL1, AML_ARG0 = 0x68, AML_ARG1 };

void aml_begin(struct aml *a, uint8_t *buf, size_t cap);
bool aml_ok(const struct aml *a);
void aml_bytes(struct aml *a, const void *p, size_t n);
void aml_byte(struct aml *a, uint8_t b);

/* Data objects. Names are "\\_SB_" or single segments of up to four letters. */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id);
void aml_name_ref(struct aml *a, const char *path);

/* Blocks: each needs an aml_close(). */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_package(struct aml *a, unsigned elements);
void aml_if_and(struct aml *a, enum aml_local value, uint64_t mask);
void aml_close(struct aml *a);

/* Name (NAME, …): the value follows by the next call. */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisa(struct aml *a, const char *name, const char *id);

/* Statements. */
void aml_io_region(struct aml *a, const char *name, uint16_t port, uint8_t len);
void aml_dword_field(struct aml *a, const char *region, const char *field);
void aml_store_name_to(struct aml *a, const char *name, enum aml_local to);
void aml_store_local_to(struct aml *a, enum aml_local from, const char *name);
void aml_notify(struct aml *a, const char *object, uint64_t value);

/* Resource templates (ACPI 6.4, 6.4): Name (_CRS, ResourceTemplate () { … }). */
void aml_crs_begin(struct aml *a);
void aml_crs_io(struct aml *a, uint16_t port, uint8_t len);
void aml_crs_interrupt(struct aml *a, uint32_t gsi);
void aml_crs_memory_fixed(struct aml *a, uint32_t base, uint32_t len);
void aml_crs_memory_window(struct aml *a, uint32_t base, uint32_t len);
void aml_crs_bus_range(struct aml *a, uint16_t first, uint16_t last);
void aml_crs_end(struct aml *a);

#endif
