/* SPDX-License-Identifier: MIT */
/*
 * config.h - what the user asked for: `vmm run`'s command line as a struct.
 *
 * Strings are borrowed from argv or owned by the struct (config_fini releases those).
 * Filled by the launcher, copied into the machine process by fork, read-only there.
 */
#ifndef HV_VMM_CONFIG_H
#define HV_VMM_CONFIG_H

#include "hv/block.h"
#include "hv/err.h"

#define CONFIG_DISKS_MAX 16
#define CONFIG_NETS_MAX 8
#define CONFIG_INITRDS_MAX 4
#define CONFIG_NET_QUEUES_MAX 16
#define CONFIG_NAME_MAX 64

enum config_backing { CONFIG_BACKING_DENY, CONFIG_BACKING_SAME_DIR, CONFIG_BACKING_ALLOW };
enum config_on_crash { CONFIG_CRASH_EXIT, CONFIG_CRASH_RESET, CONFIG_CRASH_PAUSE };
enum config_console { CONSOLE_STDIO, CONSOLE_NONE, CONSOLE_PTY, CONSOLE_FILE, CONSOLE_UNIX };

struct config_disk {
	const char *path;
	int format;	/* enum blk_format; PROBE unless given */
	int cache;	/* index into the cache= choices, same order as enum blk_cache */
	bool readonly;
	unsigned queues;
	const char *serial;
	int discard;	/* 0 on, 1 off: index into the choices */
	char *text;	/* owned copy that the strings point into */
};

enum config_net_kind { CONFIG_NET_TAP, CONFIG_NET_FD };
struct config_net {
	enum config_net_kind kind;
	const char *tap;
	unsigned fd;
	uint8_t mac[6];
	bool mac_given;
	unsigned queues;
	unsigned mtu;	/* the interface's, found by the launcher; 0: not known */
	char *text;
};

struct config {
	char name[CONFIG_NAME_MAX + 1];	/* empty until the launcher has settled it */
	const char *name_wanted;
	uint64_t memory_bytes;
	unsigned cpus;
	const char *kernel;
	const char *initrd[CONFIG_INITRDS_MAX];
	unsigned n_initrd;
	const char *append;
	const char *boot_entry;
	bool no_kaslr;
	struct config_disk disk[CONFIG_DISKS_MAX];
	unsigned n_disks;
	int backing;		/* enum config_backing */
	bool ephemeral;
	struct config_net net[CONFIG_NETS_MAX];
	unsigned n_nets;
	bool net_none;		/* --net none was given */
	const char *ssh_key, *user_data, *hostname;
	const char *console_text;
	enum config_console console;
	const char *console_path;
	bool detach;
	bool no_reboot;
	int on_crash;		/* enum config_on_crash */
	bool hugepages;
	bool verbose, quiet;
	bool help;
};

/**
 * config_parse_run - read the command line of `vmm run`
 * @argv: argv[0] is "run"
 *
 * Return: 0, or -EINVAL with a line in @e. With @c->help set nothing else was checked.
 * config_fini() is due in either case.
 */
int config_parse_run(struct config *c, int argc, char **argv, struct err *e);
void config_fini(struct config *c);
/** config_help_run - --help of `vmm run`, from the same table. */
void config_help_run(void);
/** config_net_mac - the MAC of network @i of VM @name: as given, else derived from both. */
void config_net_mac(const struct config *c, unsigned i, uint8_t mac[6]);

#endif
