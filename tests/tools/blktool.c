/* SPDX-License-Identifier: MIT */
/*
 * blktool - lib/block from the shell, for the integration tests.
 *
 *   blktool [-f raw|qcow2] [-c CACHE] [-b deny|same-dir|allow] [-r] COMMAND IMAGE [ARG…]
 *
 *   create IMAGE SIZE [CLUSTER_BITS [BACKING BACKING_FORMAT]]
 *   info IMAGE                   format, size, cluster size, files of the chain
 *   dump IMAGE                   the disk's bytes on stdout
 *   map IMAGE                    one line an extent
 *   check IMAGE                  exit 0 clean, 3 leaks, 2 corrupt
 *   pattern IMAGE OFF LEN BYTE   write
 *   verify IMAGE OFF LEN BYTE    read and compare
 *   zero|unmap|discard IMAGE OFF LEN
 *   random IMAGE SEED OPS SHADOW the same random operations on the image and on a plain file
 *   hold IMAGE                   open it, print "held", wait for end of file on stdin
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/block.h"
#include "hv/fd.h"
#include "hv/size.h"

static struct blk_open opts;
static struct blk_gate gate = { .policy = BLK_GATE_SAME_DIR, .option = "-b allow" };

static uint64_t num(const char *s)
{
	uint64_t v;

	if (size_parse(s, 1, &v)) {
		fprintf(stderr, "blktool: '%s' is no number\n", s);
		exit(2);
	}
	return v;
}

static struct blk *open_image(const char *path, bool readonly)
{
	struct err e = { 0 };
	struct blk *b;
	int flags = (readonly || opts.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;

	opts.path = path;
	opts.readonly |= readonly;
	opts.gate = blk_gate_open;
	opts.gate_ctx = &gate;
	opts.fd = open(path, flags | (opts.cache == BLK_CACHE_NONE ? O_DIRECT : 0));
	if (opts.fd < 0) {
		perror(path);
		exit(1);
	}
	if (blk_open(&opts, &b, &e)) {
		fprintf(stderr, "blktool: %s\n", e.msg);
		exit(1);
	}
	return b;
}

static int fail(const char *what, int r)
{
	fprintf(stderr, "blktool: %s: %s\n", what, strerror(-r));
	return 1;
}

static int cmd_create(int argc, char **argv)
{
	struct blk_create c = { .size = num(argv[1]) };
	struct err e = { 0 };
	CLEANUP_FD int fd = open(argv[0], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (argc > 2)
		c.cluster_bits = (uint32_t)num(argv[2]);
	if (argc > 4) {
		c.backing = argv[3];
		c.backing_format = strcmp(argv[4], "raw") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
	}
	if (fd < 0)
		return fail(argv[0], -errno);
	if (blk_create_qcow2(fd, &c, &e))
		return fail(e.msg, e.code);
	return 0;
}

static int cmd_info(int argc, char **argv)
{
	struct blk *b = open_image(argv[0], true);

	printf("format %s size %" PRIu64 " cluster %u files %u\n", blk_format_name(b), blk_size(b),
	       blk_cluster_size(b), blk_files(b));
	return blk_close(b);
}

static int cmd_dump(int argc, char **argv)
{
	struct blk *b = open_image(argv[0], true);
	static char buf[MIB(1)];
	uint64_t n;
	int r = 0;

	for (uint64_t off = 0; !r && off < blk_size(b); off += n) {
		n = MIN((uint64_t)sizeof(buf), blk_size(b) - off);
		r = blk_pread(b, off, buf, n);
		if (!r)
			r = fd_write_full(STDOUT_FILENO, buf, n);
	}
	blk_close(b);
	return r ? fail("dump", r) : 0;
}

static int cmd_map(int argc, char **argv)
{
	static const char *const kinds[] = { "data", "zero", "compressed", "hole" };
	struct blk *b = open_image(argv[0], true);
	struct blk_extent x;
	int r = 0;

	for (uint64_t off = 0; off < blk_size(b); off += x.len) {
		r = blk_map_sync(b, off, blk_size(b) - off, &x);
		if (r)
			break;
		printf("%#" PRIx64 " %#" PRIx64 " %s depth %u host %#" PRIx64 "\n", x.off, x.len,
		       kinds[x.kind], x.depth, x.host_off);
	}
	blk_close(b);
	return r ? fail("map", r) : 0;
}

static int cmd_check(int argc, char **argv)
{
	struct blk *b = open_image(argv[0], true);
	struct blk_check c;
	struct err e = { 0 };
	int r = blk_check(b, &c, &e);

	blk_close(b);
	if (r)
		return fail(e.msg, r);
	printf("corruptions %" PRIu64 " leaks %" PRIu64 " copied %" PRIu64 " clusters %" PRIu64
	       " %s\n",
	       c.corruptions, c.leaks, c.copied_errors, c.clusters, e.code ? e.msg : "");
	return c.corruptions || c.copied_errors ? 2 : c.leaks ? 3 : 0;
}

static int cmd_range(int argc, char **argv, const char *what)
{
	struct blk *b = open_image(argv[0], false);
	uint64_t off = num(argv[1]), len = num(argv[2]);
	int r = !strcmp(what, "zero")	 ? blk_pwrite_zeroes(b, off, len, false)
		: !strcmp(what, "unmap") ? blk_pwrite_zeroes(b, off, len, true)
					 : blk_pdiscard(b, off, len);
	int c = blk_close(b);

	return r || c ? fail(what, r ? r : c) : 0;
}

static int cmd_pattern(int argc, char **argv, bool write)
{
	struct blk *b = open_image(argv[0], !write);
	uint64_t off = num(argv[1]), len = num(argv[2]);
	static char buf[MIB(1)], want[MIB(1)];
	int r = 0, c;

	memset(want, (int)num(argv[3]), sizeof(want));
	for (uint64_t n; len && !r; off += n, len -= n) {
		n = MIN(len, (uint64_t)sizeof(buf));
		r = write ? blk_pwrite(b, off, want, n) : blk_pread(b, off, buf, n);
		if (!r && !write && memcmp(buf, want, n))
			r = -EBADMSG;
	}
	c = blk_close(b);
	return r || c ? fail(write ? "pattern" : "verify", r ? r : c) : 0;
}

/* The same operation on image and shadow; discards need not zero, so they are not compared. */
static int random_op(struct blk *b, int shadow, unsigned *seed)
{
	static char buf[KIB(512)], other[KIB(512)];
	uint64_t size = blk_size(b),
		 off = ((uint64_t)rand_r(seed) << 16 ^ (uint64_t)rand_r(seed)) % size;
	uint64_t len = MIN((uint64_t)rand_r(seed) % (rand_r(seed) % 4 ? KIB(16) : sizeof(buf)) + 1,
			   size - off);
	int r;

	switch (rand_r(seed) % 8) {
	case 0:
		r = blk_pwrite_zeroes(b, off, len, rand_r(seed) % 2);
		memset(buf, 0, len);
		return r ? r : fd_pwrite_full(shadow, buf, len, off);
	case 1: return rand_r(seed) % 4 ? 0 : blk_flush(b);
	case 2:
	case 3:
		r = blk_pread(b, off, buf, len);
		if (!r)
			r = fd_pread_full(shadow, other, len, off);
		return r ? r : memcmp(buf, other, len) ? -EBADMSG : 0;
	default:
		memset(buf, rand_r(seed), len);
		r = blk_pwrite(b, off, buf, len);
		return r ? r : fd_pwrite_full(shadow, buf, len, off);
	}
}

static int cmd_random(int argc, char **argv)
{
	unsigned seed = (unsigned)num(argv[1]);
	uint64_t ops = num(argv[2]);
	CLEANUP_FD int shadow = open(argv[3], O_RDWR | O_CLOEXEC);
	struct blk *b = open_image(argv[0], false);
	int r = shadow < 0 ? -errno : 0, c;

	for (uint64_t i = 0; i < ops && !r; i++)
		r = random_op(b, shadow, &seed);
	c = blk_close(b);
	return r || c ? fail("random", r ? r : c) : 0;
}

static int cmd_hold(int argc, char **argv)
{
	struct blk *b = open_image(argv[0], opts.readonly);
	char c;

	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return blk_close(b);
}

static int dispatch(const char *cmd, int argc, char **argv)
{
	if (!strcmp(cmd, "create") && argc >= 2)
		return cmd_create(argc, argv);
	if (!strcmp(cmd, "info") && argc == 1)
		return cmd_info(argc, argv);
	if (!strcmp(cmd, "dump") && argc == 1)
		return cmd_dump(argc, argv);
	if (!strcmp(cmd, "map") && argc == 1)
		return cmd_map(argc, argv);
	if (!strcmp(cmd, "check") && argc == 1)
		return cmd_check(argc, argv);
	if ((!strcmp(cmd, "pattern") || !strcmp(cmd, "verify")) && argc == 4)
		return cmd_pattern(argc, argv, cmd[0] == 'p');
	if ((!strcmp(cmd, "zero") || !strcmp(cmd, "unmap") || !strcmp(cmd, "discard")) && argc == 3)
		return cmd_range(argc, argv, cmd);
	if (!strcmp(cmd, "random") && argc == 4)
		return cmd_random(argc, argv);
	if (!strcmp(cmd, "hold") && argc == 1)
		return cmd_hold(argc, argv);
	fprintf(stderr, "blktool: usage\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const caches[] = { "writeback", "none", "writethrough", "unsafe" };
	int c;

	while ((c = getopt(argc, argv, "+f:c:b:r")) != -1) {
		switch (c) {
		case 'f':
			opts.format = strcmp(optarg, "raw") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
			break;
		case 'c':
			for (unsigned i = 0; i < ARRAY_SIZE(caches); i++)
				if (!strcmp(optarg, caches[i]))
					opts.cache = (enum blk_cache)i;
			break;
		case 'b':
			gate.policy = !strcmp(optarg, "deny")	 ? BLK_GATE_DENY
				      : !strcmp(optarg, "allow") ? BLK_GATE_ALLOW
								 : BLK_GATE_SAME_DIR;
			break;
		case 'r': opts.readonly = true; break;
		default: return 2;
		}
	}
	if (argc - optind < 2)
		return dispatch("", 0, NULL);
	return dispatch(argv[optind], argc - optind - 1, argv + optind + 1);
}
