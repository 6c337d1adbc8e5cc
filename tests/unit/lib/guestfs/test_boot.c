/* SPDX-License-Identifier: MIT */
/* Boot discovery over all loaders, choosing, the serial console; paths and links. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../../../support/gfs_support.h"
#include "hv/bytes.h"

static const struct fake_part two[] = { { GFS_EXT, "ext4", "1111-22", "root", false, NULL },
					{ GFS_FAT, "vfat", "DEAD-BEEF", "ESP", true, NULL } };

static void assert_serial(const char *in, const char *want)
{
	char *s = boot_cmdline_serial(in, NULL);

	assert_string_equal(s, want);
	free(s);
}

static void serial_console_is_added_where_none_is(void **state)
{
	assert_serial("", "console=ttyS0");
	assert_serial("root=/dev/vda1 ro", "root=/dev/vda1 ro console=ttyS0");
	assert_serial("ro console=tty0", "ro console=tty0 console=ttyS0");
	assert_serial("console=ttyS1,115200 ro", "console=ttyS1,115200 ro");
	assert_serial("ro -- single", "ro console=ttyS0 -- single");
	assert_serial("earlycon=x xconsole=ttyS0", "earlycon=x xconsole=ttyS0 console=ttyS0");
}

static void newest_kernel_is_the_last_resort(void **state)
{
	const struct fake_file f[] = { { 1, "/boot/vmlinuz-6.1.0-9-amd64", "k", 0 },
				       { 1, "/boot/vmlinuz-6.1.0-13-amd64", "k", 0 },
				       { 1, "/boot/initrd.img-6.1.0-13-amd64", "i", 0 },
				       { 1, "/etc/fstab", "x", 0 },
				       { 0 } };
	struct fake_disk *d = fake_open(two, 2, f);
	struct boot_list l;
	struct err e = { 0 };

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, &e), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(l.entry[0].kernel.path, "/boot/vmlinuz-6.1.0-13-amd64");
	assert_string_equal(l.entry[0].cmdline, "root=UUID=1111-22 ro");
	assert_string_equal(l.entry[0].source, "newest kernel");
	assert_int_equal(l.entry[0].n_initrd, 1);
	boot_list_free(&l);
	fake_close(d);
}

static void what_cannot_be_read_is_named(void **state)
{
	static const struct fake_part p[] = { { GFS_FAT, "vfat", "", "", true, NULL },
					      { GFS_FOREIGN, "btrfs", "", "", false, NULL },
					      { GFS_EXT, "ext4", "", "", false,
						"journal on another device" } };
	const struct fake_file f[] = { { 0 } };
	struct fake_disk *d = fake_open(p, 3, f);
	struct boot_list l;
	struct err e = { 0 };

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "partition 2 is btrfs, which vmm cannot read"));
	assert_non_null(strstr(e.msg, "partition 3 is ext4, but journal on another device"));
	assert_non_null(strstr(e.msg, "(use --kernel)"));
	assert_int_equal(l.n, 0);
	fake_close(d);
}

static const struct fake_file systemd_files[] = {
	{ 2, "/loader/loader.conf", "timeout 3\ndefault  arch-lts*\n", 0 },
	{ 2, "/loader/entries/arch.conf",
	  "# comment\ntitle Arch Linux\nlinux /vmlinuz-linux\ninitrd /ucode.img\n"
	  "initrd /initramfs.img\noptions root=LABEL=x\noptions rw\n",
	  0 },
	{ 2, "/loader/entries/arch-lts+3-1.conf",
	  "title\tArch LTS\nlinux /vmlinuz-linux\noptions lts\n", 0 },
	{ 2, "/loader/entries/arm.conf", "title Arm\nlinux /vmlinuz-linux\narchitecture aa64\n",
	  0 },
	{ 2, "/vmlinuz-linux", "k", 0 },
	{ 2, "/ucode.img", "u", 0 },
	{ 2, "/initramfs.img", "i", 0 },
	{ 0 },
};

static void systemd_boot_takes_loader_confs_default(void **state)
{
	struct fake_disk *d = fake_open(two, 2, systemd_files);
	struct boot_list l;
	size_t i;

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, NULL), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.entry[l.default_index].id, "arch-lts");
	assert_string_equal(l.entry[l.default_index].source, "systemd-boot");
	assert_int_equal(boot_list_choose(&l, "Arch Linux", &i, NULL), 0);
	assert_int_equal(l.entry[i].n_initrd, 2);
	assert_string_equal(l.entry[i].initrd[0].path, "/ucode.img");
	assert_string_equal(l.entry[i].cmdline, "root=LABEL=x rw");
	assert_int_equal(boot_list_choose(&l, "Arm", &i, NULL), -ENOENT);
	boot_list_free(&l);
	fake_close(d);
}

static void choosing_by_number_title_and_part(void **state)
{
	struct fake_disk *d = fake_open(two, 2, systemd_files);
	struct boot_list l;
	struct err e = { 0 };
	size_t i;

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, NULL), 0);
	assert_int_equal(boot_list_choose(&l, NULL, &i, &e), 0);
	assert_int_equal(i, l.default_index);
	assert_int_equal(boot_list_choose(&l, "0", &i, &e), -ENOENT);
	assert_int_equal(boot_list_choose(&l, "9", &i, &e), -ENOENT);
	assert_int_equal(boot_list_choose(&l, "LTS", &i, &e), 0);
	assert_string_equal(l.entry[i].id, "arch-lts");
	assert_int_equal(boot_list_choose(&l, "Arch", &i, &e), -ENOTUNIQ);
	assert_int_equal(boot_list_choose(&l, "nothing", &i, &e), -ENOENT);
	boot_list_free(&l);
	fake_close(d);
}

static void alpine_extlinux(void **state)
{
	const struct fake_file f[] = {
		{ 1, "/boot/extlinux.conf",
		  "# Generated\nDEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine\nTIMEOUT 30\n"
		  "LABEL lts\n  MENU LABEL Linux lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n"
		  "  APPEND root=UUID=1 modules=ext4\n"
		  "LABEL virt\n  MENU DEFAULT\n  MENU LABEL Linux ^virt\n  LINUX vmlinuz-virt\n"
		  "  INITRD initramfs-virt,extra\n  APPEND root=UUID=1 modules=sd-mod,ext4 "
		  "rootfstype=ext4\n"
		  "LABEL old\n  KERNEL /boot/vmlinuz-lts\n  APPEND initrd=/boot/initramfs-lts "
		  "quiet\n"
		  "INCLUDE /boot/extlinux.conf\nMENU SEPARATOR\n",
		  0 },
		{ 1, "/boot/vmlinuz-virt", "kv", 0 },
		{ 1, "/boot/initramfs-virt", "iv", 0 },
		{ 1, "/boot/extra", "x", 0 },
		{ 1, "/boot/vmlinuz-lts", "kl", 0 },
		{ 1, "/boot/initramfs-lts", "il", 0 },
		{ 0 }
	};
	struct fake_disk *d = fake_open(two, 2, f);
	struct boot_list l;
	const struct boot_entry *be;
	size_t i;

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, NULL), 0);
	be = &l.entry[l.default_index];
	assert_string_equal(be->id, "virt");
	assert_string_equal(be->title, "Linux virt");
	assert_string_equal(be->source, "extlinux");
	assert_string_equal(be->kernel.path, "/boot/vmlinuz-virt");
	assert_int_equal(be->n_initrd, 2);
	assert_string_equal(be->initrd[1].path, "/boot/extra");
	assert_string_equal(be->cmdline, "root=UUID=1 modules=sd-mod,ext4 rootfstype=ext4");
	assert_int_equal(boot_list_choose(&l, "old", &i, NULL), 0);
	assert_string_equal(l.entry[i].cmdline, "quiet");
	assert_string_equal(l.entry[i].initrd[0].path, "/boot/initramfs-lts");
	boot_list_free(&l);
	fake_close(d);
}

/* A PE file of sections, the smallest that is one. */
static size_t make_uki(uint8_t *out, uint16_t machine)
{
	static const char *const sec[][2] = { { ".osrel", "NAME=x\nPRETTY_NAME=\"Linux X\"\n" },
					      { ".cmdline", "root=/dev/vda2 quiet\n" },
					      { ".uname", "6.6" },
					      { ".linux", "KERNELBYTES" },
					      { ".initrd", "INITRD" } };
	size_t off = 64 + 24 + 40 * ARRAY_SIZE(sec);

	memset(out, 0, 1024);
	memcpy(out, "MZ", 2);
	store_le32(out + 60, 64);
	memcpy(out + 64, "PE\0\0", 4);
	store_le16(out + 68, machine);
	store_le16(out + 70, ARRAY_SIZE(sec));
	for (size_t i = 0; i < ARRAY_SIZE(sec); i++) {
		uint8_t *h = out + 64 + 24 + 40 * i;
		size_t n = strlen(sec[i][1]);

		memcpy(h, sec[i][0], strlen(sec[i][0]));
		store_le32(h + 8, (uint32_t)n);
		store_le32(h + 16, (uint32_t)n + 8); /* padded in the file */
		store_le32(h + 20, (uint32_t)off);
		memcpy(out + off, sec[i][1], n);
		off += n + 8;
	}
	return off;
}

static void unified_kernel_is_given_as_slices(void **state)
{
	uint8_t uki[1024], arm[1024], buf[16] = { 0 };
	size_t n = make_uki(uki, 0x8664);
	const struct fake_file f[] = { { 2, "/EFI/Linux/x.efi", (char *)uki, n },
				       { 2, "/EFI/Linux/arm.efi", (char *)arm,
					 make_uki(arm, 0xaa64) },
				       { 2, "/EFI/Linux/cut.efi", (char *)uki, 200 },
				       { 0 } };
	struct fake_disk *d = fake_open(two, 2, f);
	const struct boot_entry *be;
	struct gfs_file *file;
	struct boot_list l;

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, NULL), 0);
	assert_int_equal(l.n, 3);
	be = &l.entry[l.default_index];
	assert_string_equal(be->title, "Linux X (6.6)");
	assert_string_equal(be->source, "UKI");
	assert_string_equal(be->cmdline, "root=/dev/vda2 quiet");
	assert_int_equal(boot_file_open(&be->kernel, &file, NULL), 0);
	assert_int_equal(gfs_file_size(file), 11);
	assert_int_equal(gfs_file_pread(file, 6, buf, 5), 0);
	assert_string_equal((char *)buf, "BYTES");
	assert_int_equal(gfs_file_pread(file, 6, buf, 6), -EINVAL);
	gfs_file_close(file);
	assert_int_equal(be->initrd[0].len, 6);
	boot_list_free(&l);
	fake_close(d);
}

static void links_never_leave_the_root(void **state)
{
	const struct fake_file f[] = {
		{ 1, "/a/b/file", "inside", 0 },   { 1, "/a/up", "-> ../../../../a/b", 0 },
		{ 1, "/abs", "-> /a/up/file", 0 }, { 1, "/loop", "-> loop2", 0 },
		{ 1, "/loop2", "-> /loop", 0 },	   { 0 }
	};
	struct fake_disk *d = fake_open(two, 2, f);
	struct gfs_fs *fs = gfs_fs_get(fake_gfs(d), 0);
	struct gfs_stat st;
	uint8_t *buf;
	size_t len;

	assert_int_equal(gfs_read_file(fs, "/abs", 100, &buf, &len, NULL), 0);
	assert_string_equal((char *)buf, "inside");
	free(buf);
	assert_int_equal(gfs_read_file(fs, "/../../a/./up/../b/file", 100, &buf, &len, NULL), 0);
	free(buf);
	assert_int_equal(gfs_stat(fs, "/loop", &st, NULL), -ELOOP);
	assert_int_equal(gfs_lstat(fs, "/loop", &st, NULL), 0);
	assert_int_equal(st.kind, GFS_SYMLINK);
	assert_int_equal(gfs_stat(fs, "/abs/x", &st, NULL), -ENOTDIR);
	assert_int_equal(gfs_read_file(fs, "/abs", 3, &buf, &len, NULL), -EFBIG);
	fake_close(d);
}

static void output_is_one_row_an_entry_and_json(void **state)
{
	struct fake_disk *d = fake_open(two, 2, systemd_files);
	struct boot_list l;
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	json_t *j;

	assert_int_equal(gfs_boot_entries(fake_gfs(d), &l, NULL), 0);
	boot_list_print(&l, out);
	fclose(out);
	assert_non_null(strstr(text, "Arch LTS"));
	assert_non_null(strstr(text, "unusable it is for architecture 'aa64'"));
	j = boot_list_json(&l);
	assert_int_equal(json_array_size(json_object_get(j, "entries")), 3);
	assert_int_equal(json_integer_value(json_object_get(j, "default")), l.default_index + 1);
	json_decref(j);
	free(text);
	boot_list_free(&l);
	fake_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serial_console_is_added_where_none_is),
		cmocka_unit_test(newest_kernel_is_the_last_resort),
		cmocka_unit_test(what_cannot_be_read_is_named),
		cmocka_unit_test(systemd_boot_takes_loader_confs_default),
		cmocka_unit_test(choosing_by_number_title_and_part),
		cmocka_unit_test(alpine_extlinux),
		cmocka_unit_test(unified_kernel_is_given_as_slices),
		cmocka_unit_test(links_never_leave_the_root),
		cmocka_unit_test(output_is_one_row_an_entry_and_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
