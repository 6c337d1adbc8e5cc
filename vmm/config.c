/* SPDX-License-Identifier: MIT */
/* The options of `vmm run`: one table for parsing, checking and --help. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/smbios.h"
#include "hv/opts.h"
#include "hv/size.h"

#define CONFIG_MEMORY_DEFAULT MIB(512)
#define CONFIG_MEMORY_MIN MIB(2)	/* room for a bare guest above 1 MiB */
#define CONFIG_MEMORY_MAX GIB(4096)
#define CONFIG_QUEUES_MAX 64
#define CONFIG_SERIAL_MAX 20	/* VIRTIO 1.2, 5.2.6: GET_ID */

#define MAC_TEXT_LEN 17	/* 52:54:00:12:34:56 */

static const char *const format_choices[] = { "probe", "raw", "qcow2", NULL };
static const char *const cache_choices[] = { "writeback", "none", "writethrough", "unsafe", NULL };
static const char *const on_off_choices[] = { "on", "off", NULL };
static const char *const backing_choices[] = { "deny", "same-dir", "allow", NULL };
static const char *const crash_choices[] = { "exit", "reset", "pause", NULL };

/* A path that holds KEY=VALUE after a comma; ",," is a comma of the path itself. */
static char *config_cut_keys(char *text)
{
	char *from = text, *to = text;

	for (; *from; from++) {
		if (*from == ',' && from[1] != ',') {
			*to = 0;
			return from + 1;
		}
		if (*from == ',')
			from++;
		*to++ = *from;
	}
	*to = 0;
	return NULL;
}

static int config_disk_keys(struct config_disk *d, char *keys, struct err *e)
{
	const struct opt table[] = {
		{ .name = "format", .type = OPT_CHOICE, .target = &d->format, .choices = format_choices },
		{ .name = "readonly", .type = OPT_FLAG, .target = &d->readonly },
		{ .name = "cache", .type = OPT_CHOICE, .target = &d->cache, .choices = cache_choices },
		{ .name = "queues", .type = OPT_UINT, .target = &d->queues, .min = 1,
		  .max = CONFIG_QUEUES_MAX },
		{ .name = "serial", .type = OPT_STRING, .target = &d->serial },
		{ .name = "discard", .type = OPT_CHOICE, .target = &d->discard,
		  .choices = on_off_choices },
		{ 0 },
	};

	int r = keys ? opts_list(table, keys, d->path, e) : 0;

	if (!r && d->serial && strlen(d->serial) > CONFIG_SERIAL_MAX)
		return err_set(e, -EINVAL, "%s: serial=%s: at most %d characters", d->path, d->serial,
			       CONFIG_SERIAL_MAX);
	return r;
}

static struct config_disk *config_disk_new(struct config *c, const char *value, struct err *e)
{
	struct config_disk *d;

	if (c->n_disks == CONFIG_DISKS_MAX) {
		err_set(e, -EINVAL, "more than %d disks", CONFIG_DISKS_MAX);
		return NULL;
	}
	d = &c->disk[c->n_disks];
	*d = (struct config_disk){ .queues = 1, .text = strdup(value) };
	if (!d->text) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	c->n_disks++;
	d->path = d->text;
	return d;
}

static int config_add_disk(void *target, const char *value, struct err *e)
{
	struct config_disk *d = config_disk_new(target, value, e);
	char *keys;

	if (!d)
		return -EINVAL;
	keys = config_cut_keys(d->text);
	if (!*d->path)
		return err_set(e, -EINVAL, "'%s': no path", value);
	return config_disk_keys(d, keys, e);
}

static int config_add_cdrom(void *target, const char *value, struct err *e)
{
	struct config_disk *d = config_disk_new(target, value, e);

	if (!d)
		return -EINVAL;
	d->readonly = true;
	d->format = BLK_FORMAT_RAW;
	return 0;
}

static int config_add_initrd(void *target, const char *value, struct err *e)
{
	struct config *c = target;

	if (c->n_initrd == CONFIG_INITRDS_MAX)
		return err_set(e, -EINVAL, "more than %d initrds", CONFIG_INITRDS_MAX);
	c->initrd[c->n_initrd++] = value;
	return 0;
}

static int config_parse_mac(void *target, const char *value, struct err *e)
{
	struct config_net *n = target;
	unsigned b[6];

	/* scanf alone would take signs and blanks for digits. */
	if (strlen(value) != MAC_TEXT_LEN || strspn(value, "0123456789abcdefABCDEF:") != MAC_TEXT_LEN ||
	    sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		return err_set(e, -EINVAL, "'%s' is not a MAC address like 52:54:00:12:34:56", value);
	if (b[0] & 1)
		return err_set(e, -EINVAL, "'%s' is a multicast address", value);
	for (int i = 0; i < 6; i++)
		n->mac[i] = (uint8_t)b[i];
	n->mac_given = true;
	return 0;
}

static int config_net_keys(struct config_net *n, char *keys, struct err *e)
{
	const struct opt table[] = {
		{ .name = "mac", .type = OPT_CALL, .target = n, .call = config_parse_mac },
		{ .name = "queues", .type = OPT_UINT, .target = &n->queues, .min = 1,
		  .max = CONFIG_NET_QUEUES_MAX },
		{ 0 },
	};

	return keys ? opts_list(table, keys, "--net", e) : 0;
}

static int config_net_kind(struct config_net *n, struct err *e)
{
	uint64_t fd;

	if (!strncmp(n->text, "tap=", 4) && n->text[4]) {
		n->kind = CONFIG_NET_TAP;
		n->tap = n->text + 4;
		return 0;
	}
	if (!strncmp(n->text, "fd=", 3) && !u64_parse(n->text + 3, &fd) && fd <= INT32_MAX) {
		n->kind = CONFIG_NET_FD;
		n->fd = (unsigned)fd;
		return 0;
	}
	return err_set(e, -EINVAL, "'%s': use none, tap=NAME or fd=N", n->text);
}

static int config_add_net(void *target, const char *value, struct err *e)
{
	struct config *c = target;
	struct config_net *n = &c->net[c->n_nets];
	char *keys;
	int r;

	if (!strcmp(value, "none")) {
		c->net_none = true;
		return 0;
	}
	if (c->n_nets == CONFIG_NETS_MAX)
		return err_set(e, -EINVAL, "more than %d networks", CONFIG_NETS_MAX);
	*n = (struct config_net){ .queues = 1, .text = strdup(value) };
	if (!n->text)
		return err_set(e, -ENOMEM, "out of memory");
	c->n_nets++;
	keys = config_cut_keys(n->text);
	r = config_net_kind(n, e);
	return r ? r : config_net_keys(n, keys, e);
}

static int config_parse_console(struct config *c, struct err *e)
{
	const char *v = c->console_text;

	if (!v)
		c->console = c->detach ? CONSOLE_NONE : CONSOLE_STDIO;
	else if (!strcmp(v, "stdio"))
		c->console = CONSOLE_STDIO;
	else if (!strcmp(v, "none"))
		c->console = CONSOLE_NONE;
	else if (!strcmp(v, "pty"))
		c->console = CONSOLE_PTY;
	else if (!strncmp(v, "file=", 5) && v[5])
		c->console = CONSOLE_FILE, c->console_path = v + 5;
	else if (!strncmp(v, "unix=", 5) && v[5])
		c->console = CONSOLE_UNIX, c->console_path = v + 5;
	else
		return err_set(e, -EINVAL,
			       "--console: '%s' is not one of stdio, none, pty, file=PATH, unix=PATH", v);
	if (c->detach && c->console == CONSOLE_STDIO)
		return err_set(e, -EINVAL, "--console stdio and --detach exclude each other");
	return 0;
}

/* Names are directory names and host names: no slash, no dot in front, nothing to escape. */
static int config_check_name(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (!n || n > CONFIG_NAME_MAX)
		return err_set(e, -EINVAL, "--name: 1 to %d characters", CONFIG_NAME_MAX);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && (i == 0 || !strchr("._-", name[i])))
			return err_set(e, -EINVAL,
				       "--name: '%s': letters, digits, '.', '_' and '-' only", name);
	return 0;
}

static int config_check_hostname(const char *host, struct err *e)
{
	for (const char *p = host; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
			return err_set(e, -EINVAL, "--hostname '%s': letters, digits, '-' and '.' only",
				       host);
	return *host ? 0 : err_set(e, -EINVAL, "--hostname: empty");
}

static int config_check(struct config *c, struct err *e)
{
	int r = config_parse_console(c, e);

	if (!r && c->name_wanted)
		r = config_check_name(c->name_wanted, e);
	if (!r && c->hostname)
		r = config_check_hostname(c->hostname, e);
	if (r)
		return r;
	if (!c->n_disks && !c->kernel)
		return err_set(e, -EINVAL, "nothing to boot: name a DISK or --kernel FILE");
	if (c->n_initrd && !c->kernel)
		return err_set(e, -EINVAL, "--initrd needs --kernel");
	if (c->boot_entry && c->kernel)
		return err_set(e, -EINVAL, "--boot-entry and --kernel exclude each other");
	if (!IS_ALIGNED(c->memory_bytes, MIB(1)))
		return err_set(e, -EINVAL, "--memory has to be a multiple of 1 MiB");
	if (c->hugepages && !IS_ALIGNED(c->memory_bytes, MIB(2)))
		return err_set(e, -EINVAL, "--hugepages: --memory has to be a multiple of 2 MiB");
	if (c->net_none && c->n_nets)
		return err_set(e, -EINVAL, "--net none and other networks exclude each other");
	return 0;
}

struct config_table {
	struct opt opt[32];
};

static void config_table(struct config *c, struct config_table *t)
{
	const struct opt table[] = {
		{ "name", 'n', OPT_STRING, &c->name_wanted, "NAME",
		  "default: the disk's file name without suffix" },
		{ "memory", 'm', OPT_SIZE, &c->memory_bytes, "SIZE",
		  "guest memory (512M); a bare number is MiB", MIB(1), CONFIG_MEMORY_MIN,
		  CONFIG_MEMORY_MAX },
		{ "cpus", 'c', OPT_UINT, &c->cpus, "N", "vCPUs (1)", 0, 1, 4096 },
		{ "kernel", 'k', OPT_STRING, &c->kernel, "FILE",
		  "ELF with a PVH note, or bzImage, instead of what DISK boots" },
		{ "initrd", 'i', OPT_CALL, c, "FILE", "initial RAM disk for --kernel",
		  .call = config_add_initrd },
		{ "append", 'a', OPT_STRING, &c->append, "TEXT",
		  "kernel arguments; without --kernel added to those found" },
		{ "boot-entry", 0, OPT_STRING, &c->boot_entry, "N|TITLE",
		  "which entry to boot (vmm boot-entries DISK lists them)" },
		{ "no-kaslr", 0, OPT_FLAG, &c->no_kaslr, NULL, "load the kernel where it was linked" },
		{ "disk", 'd', OPT_CALL, c, "PATH[,KEY=VALUE...]",
		  "add a disk; keys: format, readonly, cache, queues, serial, discard",
		  .call = config_add_disk },
		{ "backing", 0, OPT_CHOICE, &c->backing, "deny|same-dir|allow",
		  "which files an image may name (same-dir)", .choices = backing_choices },
		{ "cdrom", 0, OPT_CALL, c, "FILE", "add a read-only disk", .call = config_add_cdrom },
		{ "ephemeral", 0, OPT_FLAG, &c->ephemeral, NULL,
		  "drop the guest's writes at exit; the images stay untouched" },
		{ "net", 0, OPT_CALL, c, "NET[,mac=M][,queues=N]", "none, tap=NAME or fd=N",
		  .call = config_add_net },
		{ "ssh-key", 0, OPT_STRING, &c->ssh_key, "FILE",
		  "public key for the image's default user (NoCloud seed)" },
		{ "user-data", 0, OPT_STRING, &c->user_data, "FILE", "cloud-init user-data (NoCloud seed)" },
		{ "hostname", 0, OPT_STRING, &c->hostname, "H", "host name (NoCloud seed)" },
		{ "console", 0, OPT_STRING, &c->console_text, "stdio|none|pty|file=PATH|unix=PATH",
		  "where the guest's serial console goes" },
		{ "detach", 0, OPT_FLAG, &c->detach, NULL, "return once the guest runs, printing its name" },
		{ "no-reboot", 0, OPT_FLAG, &c->no_reboot, NULL, "end when the guest resets" },
		{ "on-crash", 0, OPT_CHOICE, &c->on_crash, "exit|reset|pause", "on a guest panic (exit)",
		  .choices = crash_choices },
		{ "hugepages", 0, OPT_FLAG, &c->hugepages, NULL, "take the host's reserved huge pages" },
		{ "verbose", 'v', OPT_FLAG, &c->verbose, NULL, "say what is done, and how long it took" },
		{ "quiet", 'q', OPT_FLAG, &c->quiet, NULL, "errors only" },
		{ "help", 0, OPT_FLAG, &c->help, NULL, "this text" },
		{ 0 },
	};

	static_assert(ARRAY_SIZE(table) <= ARRAY_SIZE(t->opt), "config_table");
	memcpy(t->opt, table, sizeof(table));
}

int config_parse_run(struct config *c, int argc, char **argv, struct err *e)
{
	struct config_table t;
	const char *args[1];
	size_t n = ARRAY_SIZE(args);
	struct config_disk first;
	int r;

	*c = (struct config){ .memory_bytes = CONFIG_MEMORY_DEFAULT,
			      .cpus = 1,
			      .backing = CONFIG_BACKING_SAME_DIR };
	config_table(c, &t);
	r = opts_parse(t.opt, argc, argv, args, &n, e);
	if (r || c->help)
		return r;
	if (n) {
		/* The operand is the first disk, wherever it stood. */
		if (!config_disk_new(c, args[0], e))
			return -EINVAL;
		first = c->disk[c->n_disks - 1];
		memmove(&c->disk[1], &c->disk[0], (c->n_disks - 1) * sizeof(c->disk[0]));
		c->disk[0] = first;
	}
	return config_check(c, e);
}

void config_fini(struct config *c)
{
	for (unsigned i = 0; i < c->n_disks; i++)
		free(c->disk[i].text);
	for (unsigned i = 0; i < c->n_nets; i++)
		free(c->net[i].text);
	c->n_disks = c->n_nets = 0;
}

void config_help_run(void)
{
	struct config c = { 0 };
	struct config_table t;

	config_table(&c, &t);
	puts("usage: vmm run [OPTIONS] [DISK]\n"
	     "Boot a disk image (or a kernel) and stay in the foreground; Ctrl-] ends the VM.\n");
	opts_help(t.opt, stdout);
	puts("\nExit status: 0 powered off, 1 failed, 2 usage, 3 the guest crashed, 4 killed.");
}

void config_net_mac(const struct config *c, unsigned i, uint8_t mac[6])
{
	char seed[CONFIG_NAME_MAX + 16];
	uint8_t uuid[16];

	if (c->net[i].mac_given) {
		memcpy(mac, c->net[i].mac, 6);
		return;
	}
	snprintf(seed, sizeof(seed), "%s/net%u", c->name, i);
	smbios_uuid(seed, uuid);
	memcpy(mac, (const uint8_t[]){ 0x52, 0x54, 0x00 }, 3);
	memcpy(mac + 3, uuid + 13, 3);
}
