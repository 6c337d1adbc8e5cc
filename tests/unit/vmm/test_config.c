/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "config.h"

static struct config c;
static struct err e;

#define ARGV_MAX 40
static int parse_argv(const char *const *words)
{
	char *argv[ARGV_MAX] = { (char *)"run" };
	int argc = 1;

	while (words[argc - 1] && argc < ARGV_MAX - 1) {
		argv[argc] = (char *)words[argc - 1];
		argc++;
	}
	e = (struct err){ 0 };
	return config_parse_run(&c, argc, argv, &e);
}

#define PARSE(...) parse_argv((const char *const[]){ __VA_ARGS__, NULL })

static int teardown(void **state)
{
	(void)state;
	config_fini(&c);
	return 0;
}

/* A refused command line names @text in one printable line. */
#define REFUSED(text, ...)                                                        \
	do {                                                                      \
		assert_int_equal(PARSE(__VA_ARGS__), -EINVAL);                    \
		if (!strstr(e.msg, text))                                         \
			fail_msg("'%s' is not in '%s'", text, e.msg);             \
		config_fini(&c);                                                  \
	} while (0)

#define ACCEPTED(...)                                                             \
	do {                                                                      \
		if (PARSE(__VA_ARGS__))                                           \
			fail_msg("%s", e.msg);                                    \
	} while (0)

static void a_disk_alone_gets_the_defaults(void **state)
{
	(void)state;
	ACCEPTED("disk.qcow2");
	assert_int_equal(c.memory_bytes, MIB(512));
	assert_int_equal(c.cpus, 1);
	assert_int_equal(c.n_disks, 1);
	assert_string_equal(c.disk[0].path, "disk.qcow2");
	assert_int_equal(c.disk[0].format, BLK_FORMAT_PROBE);
	assert_int_equal(c.disk[0].cache, BLK_CACHE_WRITEBACK);
	assert_int_equal(c.disk[0].queues, 1);
	assert_int_equal(c.backing, CONFIG_BACKING_SAME_DIR);
	assert_int_equal(c.on_crash, CONFIG_CRASH_EXIT);
	assert_int_equal(c.console, CONSOLE_STDIO);
	assert_int_equal(c.n_nets, 0);
	assert_false(c.net_none || c.ephemeral || c.detach || c.no_reboot || c.hugepages);
}

static void every_option_arrives(void **state)
{
	(void)state;
	ACCEPTED("--name", "web-1", "--memory=2G", "--cpus", "4", "--kernel", "vmlinuz", "--initrd",
		 "a.img", "--initrd", "b.img", "--append", "quiet", "--no-kaslr", "--disk", "d.raw",
		 "--backing", "allow", "--cdrom", "seed.iso", "--ephemeral", "--net", "tap=tap0",
		 "--ssh-key", "k.pub", "--user-data", "u", "--hostname", "h", "--console", "file=log",
		 "--no-reboot", "--on-crash", "pause", "--hugepages", "--verbose");
	assert_string_equal(c.name_wanted, "web-1");
	assert_int_equal(c.memory_bytes, GIB(2));
	assert_int_equal(c.cpus, 4);
	assert_string_equal(c.kernel, "vmlinuz");
	assert_int_equal(c.n_initrd, 2);
	assert_string_equal(c.initrd[1], "b.img");
	assert_string_equal(c.append, "quiet");
	assert_int_equal(c.backing, CONFIG_BACKING_ALLOW);
	assert_int_equal(c.n_disks, 2);
	assert_true(c.disk[1].readonly);
	assert_int_equal(c.disk[1].format, BLK_FORMAT_RAW);
	assert_string_equal(c.net[0].tap, "tap0");
	assert_string_equal(c.ssh_key, "k.pub");
	assert_string_equal(c.user_data, "u");
	assert_string_equal(c.hostname, "h");
	assert_int_equal(c.console, CONSOLE_FILE);
	assert_string_equal(c.console_path, "log");
	assert_int_equal(c.on_crash, CONFIG_CRASH_PAUSE);
	assert_true(c.no_kaslr && c.ephemeral && c.no_reboot && c.hugepages && c.verbose);
}

static void short_options_are_the_same(void **state)
{
	(void)state;
	ACCEPTED("-n", "x", "-m256", "-c2", "-k", "K", "-i", "I", "-a", "A", "-d", "D", "-vq");
	assert_string_equal(c.name_wanted, "x");
	assert_int_equal(c.memory_bytes, MIB(256));	/* a bare number is MiB */
	assert_int_equal(c.cpus, 2);
	assert_string_equal(c.kernel, "K");
	assert_string_equal(c.initrd[0], "I");
	assert_string_equal(c.append, "A");
	assert_string_equal(c.disk[0].path, "D");
	assert_true(c.verbose && c.quiet);
}

static void the_operand_is_the_first_disk_wherever_it_stands(void **state)
{
	(void)state;
	ACCEPTED("--disk", "b", "a,b.raw", "--disk", "c", "--boot-entry", "2");
	assert_int_equal(c.n_disks, 3);
	assert_string_equal(c.disk[0].path, "a,b.raw");	/* no keys in an operand */
	assert_string_equal(c.disk[1].path, "b");
	assert_string_equal(c.disk[2].path, "c");
	assert_string_equal(c.boot_entry, "2");
}

static void disk_keys_are_read_and_a_doubled_comma_is_one(void **state)
{
	(void)state;
	ACCEPTED("--disk",
		 "a,,b.img,format=raw,readonly,cache=none,queues=4,serial=x,,y,discard=off");
	assert_string_equal(c.disk[0].path, "a,b.img");
	assert_int_equal(c.disk[0].format, BLK_FORMAT_RAW);
	assert_true(c.disk[0].readonly);
	assert_int_equal(c.disk[0].cache, BLK_CACHE_NONE);
	assert_int_equal(c.disk[0].queues, 4);
	assert_string_equal(c.disk[0].serial, "x,y");
	assert_int_equal(c.disk[0].discard, 1);
	config_fini(&c);
	ACCEPTED("--disk", "a,format=qcow2,cache=unsafe", "--disk", "b,cache=writethrough,discard=on");
	assert_int_equal(c.disk[0].format, BLK_FORMAT_QCOW2);
	assert_int_equal(c.disk[0].cache, BLK_CACHE_UNSAFE);
	assert_int_equal(c.disk[1].cache, BLK_CACHE_WRITETHROUGH);
	assert_int_equal(c.disk[1].discard, 0);
}

static void bad_disk_keys_name_the_key(void **state)
{
	(void)state;
	REFUSED("multiple of 1 MiB", "d", "-m", "3000K");
	REFUSED("multiple of 2 MiB", "d", "-m", "65", "--hugepages");
	REFUSED("no path", "--disk", "");
	REFUSED("no path", "--disk", ",readonly");
	REFUSED("--hostname", "d", "--hostname", "a b");
	REFUSED("at most 20", "--disk", "a,serial=123456789012345678901");
	REFUSED("unknown key 'ro'", "--disk", "a,ro");
	REFUSED("unknown key ''", "--disk", "a,");
	REFUSED("'vhd' is not one of", "--disk", "a,format=vhd");
	REFUSED("'format' needs a value", "--disk", "a,format");
	REFUSED("'readonly' takes no value", "--disk", "a,readonly=yes");
	REFUSED("queues", "--disk", "a,queues=0");
	REFUSED("queues", "--disk", "a,queues=65");
	REFUSED("queues", "--disk", "a,queues=-1");
	REFUSED("queues", "--disk", "a,queues=99999999999999999999");
	REFUSED("discard", "--disk", "a,discard=maybe");
}

static void networks_are_read(void **state)
{
	static const uint8_t mac[] = { 0x52, 0x54, 0, 0xaB, 0xcd, 0xef };

	(void)state;
	ACCEPTED("d", "--net", "tap=vm0,mac=52:54:00:ab:CD:ef,queues=2", "--net", "fd=7");
	assert_int_equal(c.n_nets, 2);
	assert_int_equal(c.net[0].kind, CONFIG_NET_TAP);
	assert_string_equal(c.net[0].tap, "vm0");
	assert_memory_equal(c.net[0].mac, mac, 6);
	assert_int_equal(c.net[0].queues, 2);
	assert_int_equal(c.net[1].kind, CONFIG_NET_FD);
	assert_int_equal(c.net[1].fd, 7);
	config_fini(&c);
	ACCEPTED("d", "--net", "none");
	assert_true(c.net_none);
}

static void bad_networks_are_refused(void **state)
{
	(void)state;
	REFUSED("use none, tap=NAME or fd=N", "d", "--net", "bridge");
	REFUSED("use none", "d", "--net", "tap=");
	REFUSED("use none", "d", "--net", "fd=-1");
	REFUSED("use none", "d", "--net", "fd=4294967296");
	REFUSED("queues", "d", "--net", "tap=t,queues=17");
	REFUSED("mtu", "d", "--net", "tap=t,mtu=1500");
	REFUSED("exclude", "d", "--net", "none", "--net", "tap=t");
	REFUSED("more than 8", "d", "--net", "fd=3", "--net", "fd=3", "--net", "fd=3", "--net", "fd=3",
		"--net", "fd=3", "--net", "fd=3", "--net", "fd=3", "--net", "fd=3", "--net", "fd=3");
}

static void bad_macs_are_refused(void **state)
{
	static const char *const bad[] = { "52:54:00:12:34", "52:54:00:12:34:56:78", "52-54-00-12-34-56",
					   "52:54:00:12:34:5g", "52:54:00:12:34:-1", "52:54:00:12: 4:56",
					   "52:54:00:12:34:0x", "", "52:54:00:12:34:567" };
	char arg[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(arg, sizeof(arg), "tap=t,mac=%s", bad[i]);
		REFUSED("is not a MAC address", "d", "--net", arg);
	}
	REFUSED("multicast", "d", "--net", "tap=t,mac=53:54:00:12:34:56");
}

static void numbers_out_of_range_are_refused(void **state)
{
	(void)state;
	REFUSED("--memory", "d", "--memory", "0");
	REFUSED("--memory", "d", "--memory", "1M");
	REFUSED("--memory", "d", "--memory", "4097G");
	REFUSED("--memory", "d", "--memory", "lots");
	REFUSED("--memory", "d", "--memory", "99999999999999999999T");
	REFUSED("--cpus", "d", "--cpus", "0");
	REFUSED("--cpus", "d", "--cpus", "4097");
	REFUSED("--cpus", "d", "--cpus", "1.5");
}

static void consoles_are_read(void **state)
{
	(void)state;
	ACCEPTED("d", "--console", "none");
	assert_int_equal(c.console, CONSOLE_NONE);
	config_fini(&c);
	ACCEPTED("d", "--console", "pty");
	assert_int_equal(c.console, CONSOLE_PTY);
	config_fini(&c);
	ACCEPTED("d", "--console", "unix=/tmp/s");
	assert_int_equal(c.console, CONSOLE_UNIX);
	assert_string_equal(c.console_path, "/tmp/s");
	config_fini(&c);
	ACCEPTED("d", "--detach");
	assert_int_equal(c.console, CONSOLE_NONE);
	config_fini(&c);
	REFUSED("exclude", "d", "--detach", "--console", "stdio");
	REFUSED("--console", "d", "--console", "file=");
	REFUSED("--console", "d", "--console", "unix=");
	REFUSED("--console", "d", "--console", "vga");
}

static void names_are_those_a_directory_and_a_host_can_have(void **state)
{
	char name[CONFIG_NAME_MAX + 2];

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	REFUSED("--name", "d", "--name", name);
	name[CONFIG_NAME_MAX] = 0;
	ACCEPTED("d", "--name", name);
	config_fini(&c);
	ACCEPTED("d", "--name", "A.b_c-9");
	config_fini(&c);
	REFUSED("--name", "d", "--name", "");
	REFUSED("--name", "d", "--name", ".hidden");
	REFUSED("--name", "d", "--name", "-x");
	REFUSED("--name", "d", "--name", "../x");
	REFUSED("--name", "d", "--name", "a b");
	REFUSED("--name", "d", "--name", "a\nb");
	assert_null(strchr(e.msg, '\n'));
}

static void combinations_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	REFUSED("nothing to boot", "--memory", "1G");
	REFUSED("--initrd needs --kernel", "d", "--initrd", "i");
	REFUSED("exclude", "d", "--kernel", "k", "--boot-entry", "1");
	REFUSED("unknown option", "d", "--nope");
	REFUSED("one operand too many", "d", "e");
	REFUSED("takes no value", "d", "--detach=yes");
	REFUSED("needs a value", "d", "--memory");
	REFUSED("--backing", "d", "--backing", "maybe");
	REFUSED("--on-crash", "d", "--on-crash", "burn");
	REFUSED("more than 4", "-k", "k", "-i", "1", "-i", "2", "-i", "3", "-i", "4", "-i", "5");
	REFUSED("more than 16", "-d1", "-d2", "-d3", "-d4", "-d5", "-d6", "-d7", "-d8", "-d9", "-d10",
		"-d11", "-d12", "-d13", "-d14", "-d15", "-d16", "-d17");
	REFUSED("more than 16", "-d1", "-d2", "-d3", "-d4", "-d5", "-d6", "-d7", "-d8", "-d9", "-d10",
		"-d11", "-d12", "-d13", "-d14", "-d15", "-d16", "operand");
}

static void help_asks_for_nothing_else(void **state)
{
	(void)state;
	ACCEPTED("--help");
	assert_true(c.help);
}

static void derived_macs_are_local_and_differ_by_name_and_index(void **state)
{
	uint8_t a[6], b[6];

	(void)state;
	ACCEPTED("d", "--net", "fd=3", "--net", "fd=4", "--net", "fd=5,mac=02:00:00:00:00:01");
	strcpy(c.name, "one");
	config_net_mac(&c, 0, a);
	assert_memory_equal(a, "\x52\x54\x00", 3);
	config_net_mac(&c, 0, b);
	assert_memory_equal(a, b, 6);
	config_net_mac(&c, 1, b);
	assert_memory_not_equal(a, b, 6);
	strcpy(c.name, "two");
	config_net_mac(&c, 0, b);
	assert_memory_not_equal(a, b, 6);
	config_net_mac(&c, 2, b);
	assert_memory_equal(b, "\x02\0\0\0\0\x01", 6);
}

#define T(f) cmocka_unit_test_setup_teardown(f, NULL, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_disk_alone_gets_the_defaults),
		T(every_option_arrives),
		T(short_options_are_the_same),
		T(the_operand_is_the_first_disk_wherever_it_stands),
		T(disk_keys_are_read_and_a_doubled_comma_is_one),
		T(bad_disk_keys_name_the_key),
		T(networks_are_read),
		T(bad_networks_are_refused),
		T(bad_macs_are_refused),
		T(numbers_out_of_range_are_refused),
		T(consoles_are_read),
		T(names_are_those_a_directory_and_a_host_can_have),
		T(combinations_that_make_no_sense_are_refused),
		T(help_asks_for_nothing_else),
		T(derived_macs_are_local_and_differ_by_name_and_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
