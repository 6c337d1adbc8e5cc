/* SPDX-License-Identifier: MIT */
/* GRUB's configuration in the shapes that Debian, Ubuntu and Rocky write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../../../support/gfs_support.h"

#define ROOT_UUID "11111111-2222-3333-4444-555555555555"
#define BOOT_UUID "aaaaaaaa-2222-3333-4444-555555555555"

static const struct fake_part one_part[] = { { GFS_EXT, "ext4", ROOT_UUID, "root", false, NULL } };
static const struct fake_part boot_and_root[] = {
	{ GFS_EXT, "ext4", BOOT_UUID, "boot", false, NULL },
	{ GFS_EXT, "ext4", ROOT_UUID, "root", false, NULL }
};

#define KERNELS(part, dir)                                                 \
	{ part, dir "/vmlinuz-6.1.0-13-amd64", "kernel13", 0 },            \
		{ part, dir "/initrd.img-6.1.0-13-amd64", "initrd13", 0 }, \
		{ part, dir "/vmlinuz-6.1.0-9-amd64", "kernel9", 0 },      \
	{                                                                  \
		part, dir "/initrd.img-6.1.0-9-amd64", "initrd9", 0        \
	}

#define HEAD(dflt)                                                                         \
	"if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n"       \
	"if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\n"              \
	"   set next_entry=\n   save_env next_entry\n   set boot_once=true\nelse\n"        \
	"   set default=\"" dflt "\"\nfi\n"                                                \
	"if [ x\"${feature_menuentry_id}\" = xy ]; then\n  menuentry_id_option=\"--id\"\n" \
	"else\n  menuentry_id_option=\"\"\nfi\nexport menuentry_id_option\n"               \
	"function savedefault {\n  if [ -z \"${boot_once}\" ]; then\n"                     \
	"    saved_entry=\"${chosen}\"\n    save_env saved_entry\n  fi\n}\n"               \
	"function load_video {\n  insmod all_video\n}\nterminal_output gfxterm\n"          \
	"if keystatus --shift; then set timeout=-1; else set timeout=5; fi\n"

#define ENTRY(title, id, uuid, dir, ver)                                                    \
	"menuentry '" title "' --class debian --class os $menuentry_id_option '" id "' {\n" \
	"\tload_video\n\tinsmod gzio\n"                                                     \
	"\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi\n"            \
	"\tset root='hd0,msdos9'\n"                                                         \
	"\tif [ x$feature_platform_search_hint = xy ]; then\n"                              \
	"\t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1 " uuid "\n"     \
	"\telse\n\t  search --no-floppy --fs-uuid --set=root " uuid "\n\tfi\n"              \
	"\techo\t'Loading Linux " ver " ...'\n"                                             \
	"\tlinux\t" dir "/vmlinuz-" ver " root=UUID=" ROOT_UUID " ro  quiet\n"              \
	"\tinitrd\t" dir "/initrd.img-" ver "\n}\n"

#define MENU(uuid, dir)                                                                         \
	ENTRY("Debian GNU/Linux", "simple", uuid, dir, "6.1.0-13-amd64")                        \
	"submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'advanced' "      \
	"{\n" ENTRY("Debian, with Linux 6.1.0-13-amd64", "adv-13", uuid, dir, "6.1.0-13-amd64") \
		ENTRY("Debian, with Linux 6.1.0-9-amd64", "adv-9", uuid, dir, "6.1.0-9-amd64")  \
			ENTRY("Debian, with Linux 5.10 (gone)", "adv-gone", uuid, dir,          \
			      "5.10") "}\nmenuentry 'UEFI Firmware Settings' "                  \
				      "$menuentry_id_option 'uefi-firmware' {\n"                \
				      "\tfwsetup\n}\n"

struct result {
	struct fake_disk *d;
	struct boot_list l;
	struct err e;
	int r;
};

static struct result discover(const struct fake_part *p, size_t n, const struct fake_file *f)
{
	struct result res = { .d = fake_open(p, n, f) };

	res.r = gfs_boot_entries(fake_gfs(res.d), &res.l, &res.e);
	return res;
}

static void done(struct result *res)
{
	boot_list_free(&res->l);
	fake_close(res->d);
}

static const struct boot_entry *def(const struct result *res)
{
	assert_int_equal(res->r, 0);
	assert_true(res->l.default_index < res->l.n);
	return &res->l.entry[res->l.default_index];
}

static void debian_first_entry_is_default(void **state)
{
	const struct fake_file f[] = { KERNELS(1, "/boot"),
				       { 1, "/boot/grub/grub.cfg",
					 HEAD("0") MENU(ROOT_UUID, "/boot"), 0 },
				       { 0 } };
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->kernel.path, "/boot/vmlinuz-6.1.0-13-amd64");
	assert_string_equal(def(&res)->title, "Debian GNU/Linux");
	assert_string_equal(def(&res)->id, "simple");
	assert_string_equal(def(&res)->cmdline, "root=UUID=" ROOT_UUID " ro quiet");
	assert_int_equal(def(&res)->n_initrd, 1);
	assert_int_equal(res.l.n, 4); /* firmware settings is no entry of ours */
	assert_non_null(strstr(res.l.why, "'0'"));
	done(&res);
}

static void missing_kernel_is_told_and_not_chosen(void **state)
{
	const struct fake_file f[] = { KERNELS(1, "/boot"),
				       { 1, "/boot/grub/grub.cfg",
					 HEAD("adv-gone") MENU(ROOT_UUID, "/boot"), 0 },
				       { 0 } };
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->title, "Debian GNU/Linux");
	assert_non_null(strstr(res.l.entry[3].problem, "/boot/vmlinuz-5.10"));
	done(&res);
}

static void default_by_submenu_path(void **state)
{
	static const char *const ways[] = {
		HEAD("1>1") MENU(ROOT_UUID, "/boot"),
		HEAD("advanced>adv-9") MENU(ROOT_UUID, "/boot"),
		HEAD("Advanced options for Debian GNU/Linux>Debian, with Linux "
		     "6.1.0-9-amd64") MENU(ROOT_UUID, "/boot")
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		const struct fake_file f[] = { KERNELS(1, "/boot"),
					       { 1, "/boot/grub/grub.cfg", ways[i], 0 },
					       { 0 } };
		struct result res = discover(one_part, 1, f);

		assert_string_equal(def(&res)->id, "adv-9");
		done(&res);
	}
}

static void saved_entry_is_read_from_grubenv(void **state)
{
	const struct fake_file f[] = {
		KERNELS(1, "/boot"),
		{ 1, "/boot/grub/grub.cfg", HEAD("${saved_entry}") MENU(ROOT_UUID, "/boot"), 0 },
		{ 1, "/boot/grub/grubenv",
		  "# GRUB Environment Block\nsaved_entry=advanced>adv-9\n#########", 0 },
		{ 0 }
	};
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->id, "adv-9");
	done(&res);
}

static void next_entry_wins_over_the_saved_one(void **state)
{
	const struct fake_file f[] = {
		KERNELS(1, "/boot"),
		{ 1, "/boot/grub/grub.cfg", HEAD("${saved_entry}") MENU(ROOT_UUID, "/boot"), 0 },
		{ 1, "/boot/grub/grubenv",
		  "# GRUB Environment Block\nsaved_entry=0\nnext_entry=1>1\n####", 0 },
		{ 0 }
	};
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->id, "adv-9");
	done(&res);
}

static void separate_boot_partition_is_found_by_uuid(void **state)
{
	const struct fake_file f[] = { KERNELS(1, ""),
				       { 1, "/grub/grub.cfg", HEAD("0") MENU(BOOT_UUID, ""), 0 },
				       { 2, "/etc/fstab", "x", 0 },
				       { 0 } };
	struct result res = discover(boot_and_root, 2, f);

	assert_string_equal(def(&res)->kernel.path, "/vmlinuz-6.1.0-13-amd64");
	assert_ptr_equal(def(&res)->kernel.fs, gfs_fs_get(fake_gfs(res.d), 0));
	done(&res);
}

static void device_in_the_path_selects_the_file_system(void **state)
{
	const struct fake_file f[] = {
		KERNELS(2, "/boot"),
		{ 1, "/boot/grub/grub.cfg",
		  "menuentry a { linux (hd0,msdos2)/boot/vmlinuz-6.1.0-9-amd64 a\n initrd "
		  "(hd0,2)/boot/initrd.img-6.1.0-9-amd64 }\n",
		  0 },
		{ 0 }
	};
	struct result res = discover(boot_and_root, 2, f);

	assert_ptr_equal(def(&res)->kernel.fs, gfs_fs_get(fake_gfs(res.d), 1));
	assert_ptr_equal(def(&res)->initrd[0].fs, gfs_fs_get(fake_gfs(res.d), 1));
	done(&res);
}

#define ROCKY_CFG                                                                               \
	"set pager=1\nif [ -f ${config_directory}/grubenv ]; then\n"                            \
	"  load_env -f ${config_directory}/grubenv\nelif [ -s $prefix/grubenv ]; then\n"        \
	"  load_env\nfi\nif [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\n"   \
	"else\n   set default=\"${saved_entry}\"\nfi\n"                                         \
	"search --no-floppy --fs-uuid --set=root " BOOT_UUID "\n"                               \
	"insmod part_gpt\ninsmod xfs\nset boot='hd0,msdos1'\n"                                  \
	"if [ -z \"${kernelopts}\" ]; then\n  set kernelopts=\"root=/dev/vda2 ro fallback \"\n" \
	"fi\ninsmod blscfg\nblscfg\n"                                                           \
	"if [ \"${boot_success}\" = \"1\" -o \"${boot_indeterminate}\" = \"1\" ]; then\n"       \
	"  set menu_hide_ok=1\nfi\n"

#define BLS(ver, kopts)                                                              \
	"title Rocky Linux (" ver ") 9.3\nversion " ver "\nlinux /vmlinuz-" ver "\n" \
	"initrd /initramfs-" ver ".img $tuned_initrd\noptions " kopts "\n"           \
	"grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class rocky\n"

static const struct fake_file rocky[] = {
	{ 1, "/grub2/grub.cfg", ROCKY_CFG, 0 },
	{ 1, "/grub2/grubenv",
	  "# GRUB Environment Block\nsaved_entry=abc-5.14.0-362.8.1.el9_3.x86_64\n"
	  "kernelopts=root=UUID=" ROOT_UUID " ro crashkernel=1G\ntuned_params=quiet\n###",
	  0 },
	{ 1, "/loader/entries/abc-5.14.0-362.8.1.el9_3.x86_64.conf",
	  BLS("5.14.0-362.8.1", "$kernelopts $tuned_params"), 0 },
	{ 1, "/loader/entries/abc-5.14.0-362.18.1.el9_3.x86_64.conf",
	  BLS("5.14.0-362.18.1", "$kernelopts"), 0 },
	{ 1, "/loader/entries/abc-0-rescue.conf", BLS("0-rescue", "ro"), 0 },
	{ 1, "/vmlinuz-5.14.0-362.8.1", "k8", 0 },
	{ 1, "/initramfs-5.14.0-362.8.1.img", "i8", 0 },
	{ 1, "/vmlinuz-5.14.0-362.18.1", "k18", 0 },
	{ 1, "/initramfs-5.14.0-362.18.1.img", "i18", 0 },
	{ 1, "/vmlinuz-0-rescue", "kr", 0 },
	{ 1, "/initramfs-0-rescue.img", "ir", 0 },
	{ 0 },
};

static void blscfg_lists_newest_first_and_takes_the_saved_one(void **state)
{
	struct result res = discover(boot_and_root, 2, rocky);

	assert_string_equal(def(&res)->id, "abc-5.14.0-362.8.1.el9_3.x86_64");
	assert_string_equal(def(&res)->cmdline, "root=UUID=" ROOT_UUID " ro crashkernel=1G quiet");
	assert_string_equal(def(&res)->source, "BLS");
	assert_int_equal(def(&res)->n_initrd, 1);
	assert_int_equal(res.l.n, 3);
	assert_string_equal(res.l.entry[0].id, "abc-5.14.0-362.18.1.el9_3.x86_64");
	assert_string_equal(res.l.entry[2].id, "abc-0-rescue");
	done(&res);
}

static void broken_script_keeps_what_came_before(void **state)
{
	const struct fake_file f[] = {
		KERNELS(1, "/boot"),
		{ 1, "/boot/grub/grub.cfg",
		  HEAD("0")
			  ENTRY("a", "a", ROOT_UUID, "/boot",
				"6.1.0-9-amd64") "if [ x = x ]; then\nmenuentry 'never closed' {\n",
		  0 },
		{ 0 }
	};
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->id, "a");
	done(&res);
}

static void endless_loops_end(void **state)
{
	const struct fake_file f[] = {
		KERNELS(1, "/boot"),
		{ 1, "/boot/grub/grub.cfg",
		  "menuentry a { linux /boot/vmlinuz-6.1.0-9-amd64 }\n"
		  "function f {\n f\n}\nwhile true; do set a=\"$a$a$a x\"; done\nf\n",
		  0 },
		{ 0 }
	};
	struct result res = discover(one_part, 1, f);

	assert_string_equal(def(&res)->kernel.path, "/boot/vmlinuz-6.1.0-9-amd64");
	done(&res);
}

static void one_entry_cannot_change_the_next(void **state)
{
	const struct fake_file f[] = {
		KERNELS(1, "/boot"),
		{ 1, "/boot/grub/grub.cfg",
		  "set opts=good\nmenuentry a { set opts=bad; linux /boot/vmlinuz-6.1.0-9-amd64 "
		  "$opts }\n"
		  "menuentry b { linux /boot/vmlinuz-6.1.0-9-amd64 $opts \"two words\" }\n",
		  0 },
		{ 0 }
	};
	struct result res = discover(one_part, 1, f);

	assert_int_equal(res.l.n, 2);
	assert_string_equal(res.l.entry[0].cmdline, "bad");
	assert_string_equal(res.l.entry[1].cmdline, "good \"two words\"");
	done(&res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debian_first_entry_is_default),
		cmocka_unit_test(missing_kernel_is_told_and_not_chosen),
		cmocka_unit_test(default_by_submenu_path),
		cmocka_unit_test(saved_entry_is_read_from_grubenv),
		cmocka_unit_test(next_entry_wins_over_the_saved_one),
		cmocka_unit_test(separate_boot_partition_is_found_by_uuid),
		cmocka_unit_test(device_in_the_path_selects_the_file_system),
		cmocka_unit_test(blscfg_lists_newest_first_and_takes_the_saved_one),
		cmocka_unit_test(broken_script_keeps_what_came_before),
		cmocka_unit_test(endless_loops_end),
		cmocka_unit_test(one_entry_cannot_change_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
