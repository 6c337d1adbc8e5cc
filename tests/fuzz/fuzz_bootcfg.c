/* SPDX-License-Identifier: MIT */
/*
 * Boot loader configurations. The first byte says which; with 'G', a second text behind a
 * NUL byte is the environment block.
 */
#include <stdlib.h>
#include <string.h>

#include "../support/gfs_support.h"
#include "hv/fd.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void discover(const struct fake_part *part, const struct fake_file *file)
{
	struct fake_disk *d = fake_open(part, 2, file);
	struct boot_list l;
	struct err e = { 0 };

	if (!gfs_boot_entries(fake_gfs(d), &l, &e)) {
		char *s = boot_cmdline_serial(l.entry[l.default_index].cmdline, NULL);

		json_decref(boot_list_json(&l));
		free(s);
		boot_list_free(&l);
	}
	fake_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fake_part part[] = {
		{ GFS_EXT, "ext4", "1111-22", "root", false, NULL },
		{ GFS_FAT, "vfat", "DEAD-BEEF", "ESP", true, NULL }
	};
	struct fake_file file[] = {
		{ 1, "/boot/vmlinuz-6.1.0", "kernel", 0 },
		{ 1, "/boot/initrd.img-6.1.0", "initrd", 0 },
		{ 1, "/vmlinuz", "-> boot/vmlinuz-6.1.0", 0 },
		{ 2, "/linux", "kernel", 0 },
		{ 0, NULL, NULL, 0 },
		{ 0, NULL, NULL, 0 },
		{ 0, NULL, NULL, 0 },
	};
	char *text = calloc(1, size + 2), *env;
	size_t first;

	if (!size || !text) {
		free(text);
		return 0;
	}
	memcpy(text, data + 1, size - 1);
	first = strlen(text) ? strlen(text) : 1;
	env = text + MIN(first + 1, size);
	file[4] = (struct fake_file){ 1, "/boot/grub/grub.cfg", text, first };
	switch (data[0]) {
	case 'G':
		file[5] = (struct fake_file){ 1, "/boot/grub/grubenv", *env ? env : "#", 0 };
		break;
	case 'B':
		file[4].path = "/boot/loader/entries/a-6.1.conf";
		file[5] = (struct fake_file){ 1, "/boot/grub2/grubenv", *env ? env : "#", 0 };
		break;
	case 'E': file[4].path = "/boot/extlinux.conf"; break;
	case 'S':
		file[4] = (struct fake_file){ 2, "/loader/entries/a.conf", text, first };
		file[5] = (struct fake_file){ 2, "/loader/loader.conf", *env ? env : "#", 0 };
		break;
	case 'U':
		file[4] = (struct fake_file){ 2, "/EFI/Linux/a.efi", (char *)data + 1, size - 1 };
		break;
	}
	/* A link needs a target behind its arrow. */
	if (strncmp(text, "-> ", 3) && size > 4)
		discover(part, file);
	free(text);
	return 0;
}
