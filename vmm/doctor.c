/* SPDX-License-Identifier: MIT */
/*
 * vmm doctor: one check a line. Each check says ok, note (works, but) or missing, what it
 * saw, and the cure. Nothing is changed on the host.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "boot/kcache.h"
#include "hv/fd.h"
#include "hv/log.h"
#include "hv/opts.h"
#include "kvm.h"
#include "rundir.h"

#define NETD_SOCKET "/run/netd/netd.sock"

enum verdict { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_MISSING };

struct finding {
	enum verdict verdict;
	char text[200];
	char cure[200];
};

struct doctor {
	int kvm_fd;
	struct kvm kvm;
};

static void found(struct finding *f, enum verdict v, const char *fmt, ...) HV_PRINTF(3, 4);
static void found(struct finding *f, enum verdict v, const char *fmt, ...)
{
	va_list ap;

	f->verdict = v;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

static void cure(struct finding *f, const char *text)
{
	snprintf(f->cure, sizeof(f->cure), "%s", text);
}

/* First line of a small text file under /proc or /sys; empty if there is none. */
static void read_line(const char *path, char *buf, size_t len)
{
	CLEANUP_FILE FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, (int)len, f))
		buf[0] = 0;
	buf[strcspn(buf, "\n")] = 0;
}

static void check_kvm(struct doctor *d, struct finding *f)
{
	struct err e = { 0 };
	int r;

	d->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (d->kvm_fd < 0) {
		r = -errno;
		found(f, DOCTOR_MISSING, "/dev/kvm: %s", strerror(-r));
		cure(f, kvm_open_hint(r));
		return;
	}
	if (kvm_attach(&d->kvm, d->kvm_fd, &e)) {
		found(f, DOCTOR_MISSING, "%s", e.msg);
		cure(f, "use a newer kernel");
		fd_close(&d->kvm_fd);
		return;
	}
	found(f, DOCTOR_OK, "/dev/kvm opens; up to %u vCPUs a VM", d->kvm.vcpus_max);
}

static void check_hardware(struct doctor *d, struct finding *f)
{
	CLEANUP_FILE FILE *in = fopen("/proc/cpuinfo", "re");
	CLEANUP_FREE char *line = NULL;
	size_t cap = 0;
	const char *has = NULL;

	(void)d;
	while (in && !has && getline(&line, &cap, in) > 0)
		if (!strncmp(line, "flags", 5))
			has = strstr(line, " vmx") ? "VT-x" : strstr(line, " svm") ? "SVM" : "";
	if (has && *has) {
		found(f, DOCTOR_OK, "%s", has);
		return;
	}
	found(f, DOCTOR_NOTE, "none: KVM here works without it, so stock kernels may not start");
	cure(f, "enable VT-x or SVM in the firmware, or nested virtualization in the outer host");
}

static void check_extensions(struct doctor *d, struct finding *f)
{
	char missing[120];

	if (d->kvm_fd < 0)
		found(f, DOCTOR_MISSING, "not known without /dev/kvm");
	else if (kvm_missing_optional(&d->kvm, missing, sizeof(missing)))
		found(f, DOCTOR_NOTE, "without%s", missing);
	else
		found(f, DOCTOR_OK, "all that vmm uses");
}

static void check_tap(struct doctor *d, struct finding *f)
{
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	(void)d;
	if (fd >= 0) {
		found(f, DOCTOR_OK, "/dev/net/tun opens");
		return;
	}
	found(f, DOCTOR_NOTE, "/dev/net/tun: %s", strerror(errno));
	cure(f, errno == ENOENT ? "modprobe tun" : "run netd, or have root make a TAP that you own");
}

static void check_vhost(struct doctor *d, struct finding *f)
{
	(void)d;
	if (access("/dev/vhost-net", F_OK) == 0)
		found(f, DOCTOR_OK, "/dev/vhost-net is there (vmm does not need it)");
	else
		found(f, DOCTOR_OK, "not there; vmm's own path serves the network");
}

static void check_thp(struct doctor *d, struct finding *f)
{
	char line[128];

	(void)d;
	read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
	if (!*line) {
		found(f, DOCTOR_NOTE, "this kernel has no transparent huge pages");
	} else if (strstr(line, "[never]")) {
		found(f, DOCTOR_NOTE, "switched off");
		cure(f, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
	} else {
		found(f, DOCTOR_OK, "%s", line);
	}
}

static void check_hugepages(struct doctor *d, struct finding *f)
{
	char line[64];

	(void)d;
	read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", line, sizeof(line));
	if (atoi(line) > 0) {
		found(f, DOCTOR_OK, "%s free of 2 MiB", line);
		return;
	}
	found(f, DOCTOR_NOTE, "none reserved: --hugepages will be refused");
	cure(f, "sysctl vm.nr_hugepages=N");
}

static void check_uring(struct doctor *d, struct finding *f)
{
	struct io_uring ring;
	int r = io_uring_queue_init(4, &ring, 0);

	(void)d;
	if (!r) {
		io_uring_queue_exit(&ring);
		found(f, DOCTOR_OK, "works");
		return;
	}
	found(f, DOCTOR_NOTE, "%s: disks are served without it, slower on cache misses", strerror(-r));
	cure(f, "sysctl kernel.io_uring_disabled=0");
}

static void check_netd(struct doctor *d, struct finding *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = NETD_SOCKET };
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)d;
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
		found(f, DOCTOR_OK, "answers on %s", NETD_SOCKET);
		return;
	}
	found(f, DOCTOR_NOTE, "%s: %s", NETD_SOCKET, strerror(errno));
	cure(f, "use --net tap=NAME with a TAP of your own");
}

static void check_runtime(struct doctor *d, struct finding *f)
{
	char base[RUNDIR_PATH_MAX], *slash;
	struct err e = { 0 };

	(void)d;
	if (rundir_base(base, &e)) {
		found(f, DOCTOR_MISSING, "%s", e.msg);
		return;
	}
	if (access(base, F_OK) == 0 && access(base, W_OK | X_OK) == 0) {
		found(f, DOCTOR_OK, "%s", base);
		return;
	}
	slash = strrchr(base, '/');
	*slash = 0;
	if (access(base, W_OK | X_OK) == 0) {
		found(f, DOCTOR_OK, "%s/vmm (made with the first VM)", base);
		return;
	}
	found(f, DOCTOR_MISSING, "%s: %s", base, strerror(errno));
	cure(f, "set XDG_RUNTIME_DIR to a directory of your own");
}

static void check_kcache(struct doctor *d, struct finding *f)
{
	struct kcache_usage u = { 0 };
	char dir[4096];
	CLEANUP_FD int fd = -1;

	(void)d;
	if (kcache_dir(dir, sizeof(dir), false)) {
		found(f, DOCTOR_NOTE, "no directory for it: kernels are unpacked at every start");
		cure(f, "set HOME or XDG_CACHE_HOME");
		return;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		kcache_usage(fd, &u);
	found(f, DOCTOR_OK, "%.120s: %u kernels, %llu MiB", dir, u.entries,
	      (unsigned long long)DIV_ROUND_UP(u.bytes, MIB(1)));
}

static const struct {
	const char *name;
	void (*fn)(struct doctor *d, struct finding *f);
} checks[] = {
	{ "kvm", check_kvm },
	{ "hardware virtualization", check_hardware },
	{ "kvm extensions", check_extensions },
	{ "transparent huge pages", check_thp },
	{ "reserved huge pages", check_hugepages },
	{ "io_uring", check_uring },
	{ "tap", check_tap },
	{ "vhost-net", check_vhost },
	{ "netd", check_netd },
	{ "runtime directory", check_runtime },
	{ "kernel cache", check_kcache },
};
static const char *const verdict_name[] = { "ok", "note", "missing" };

static void print_finding(const char *name, const struct finding *f)
{
	printf("%-8s %-24s %s\n", verdict_name[f->verdict], name, f->text);
	if (*f->cure)
		printf("%-8s %-24s -> %s\n", "", "", f->cure);
}

static int doctor_run(bool json)
{
	struct doctor d = { .kvm_fd = -1 };
	json_t *all = json ? json_array() : NULL;
	int status = 0;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding f = { 0 };

		checks[i].fn(&d, &f);
		if (f.verdict == DOCTOR_MISSING)
			status = 1;
		if (all)
			json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:s}", "check",
							     checks[i].name, "verdict",
							     verdict_name[f.verdict], "found", f.text,
							     "cure", f.cure));
		else
			print_finding(checks[i].name, &f);
	}
	if (all && (json_dumpf(all, stdout, JSON_INDENT(2)) || puts("") < 0))
		status = 1;
	json_decref(all);
	fd_close(&d.kvm_fd);
	return status;
}

int doctor_main(int argc, char **argv)
{
	bool json = false, help = false;
	const struct opt table[] = {
		{ "json", 0, OPT_FLAG, &json, NULL, "one JSON document" },
		{ "help", 0, OPT_FLAG, &help, NULL, "this text" },
		{ 0 },
	};
	struct err e = { 0 };
	size_t n = 0;

	if (opts_parse(table, argc, argv, NULL, &n, &e)) {
		log_error(NULL, "%s", e.msg);
		return 2;
	}
	if (!help)
		return doctor_run(json);
	puts("usage: vmm doctor [--json]\nSay what this host offers, and how to mend what is missing.\n");
	opts_help(table, stdout);
	return 0;
}
