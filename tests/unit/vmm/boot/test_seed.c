/* SPDX-License-Identifier: MIT */
/* The seed disk, read back by lib/guestfs' own FAT reader. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "boot/seed.h"
#include "hv/fd.h"
#include "hv/guestfs.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVzZXI me@host"

static int source_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	return fd_pread_full(*(int *)ctx, buf, len, off);
}

struct seed_disk {
	int fd;
	struct gfs *gfs;
	struct gfs_fs *fs;
};

static void seed_open(struct seed_disk *d, const struct seed_cfg *cfg)
{
	struct gfs_source src = { source_read, &d->fd, 0 };
	struct err e = { 0 };

	d->fd = memfd_create("seed", MFD_CLOEXEC);
	assert_int_equal(seed_build(d->fd, cfg, &e), 0);
	src.size = (uint64_t)lseek(d->fd, 0, SEEK_END);
	assert_int_equal(gfs_open_sources(&src, 1, &d->gfs, NULL), 0);
	assert_int_equal(gfs_fs_count(d->gfs), 1);
	d->fs = gfs_fs_get(d->gfs, 0);
	assert_int_equal(gfs_fs_info(d->fs)->type, GFS_FAT);
	assert_string_equal(gfs_fs_info(d->fs)->label, "CIDATA");
}

static void seed_close(struct seed_disk *d)
{
	gfs_close(d->gfs);
	close(d->fd);
}

/* The content of @path; the caller frees. */
static char *content(struct seed_disk *d, const char *path)
{
	uint8_t *buf;
	size_t len;

	assert_int_equal(gfs_read_file(d->fs, path, MIB(2), &buf, &len, NULL), 0);
	assert_int_equal(strlen((char *)buf), len);
	return (char *)buf;
}

static int count_name(void *ctx, const char *name, enum gfs_kind kind)
{
	assert_int_equal(kind, GFS_FILE);
	assert_true(!strcmp(name, "meta-data") || !strcmp(name, "user-data"));
	++*(int *)ctx;
	return 0;
}

static void the_disk_holds_both_documents_by_their_long_names(void **state)
{
	const struct seed_cfg cfg = { .vm_name = "web", .hostname = "web.example", .ssh_keys = KEY "\n" };
	struct seed_disk d;
	char *meta, *user;
	int n = 0;

	(void)state;
	seed_open(&d, &cfg);
	assert_int_equal(gfs_readdir(d.fs, "/", count_name, &n, NULL), 0);
	assert_int_equal(n, 2);
	meta = content(&d, "/meta-data");
	assert_string_equal(meta, "instance-id: \"iid-web\"\nlocal-hostname: \"web.example\"\n");
	user = content(&d, "/user-data");
	assert_string_equal(user, "#cloud-config\nhostname: \"web.example\"\n"
				  "ssh_authorized_keys:\n  - \"" KEY "\"\n");
	free(meta);
	free(user);
	seed_close(&d);
}

static void the_users_own_document_is_kept_and_the_key_travels_beside_it(void **state)
{
	const struct seed_cfg cfg = { .vm_name = "a", .ssh_keys = KEY, .user_data = "#!/bin/sh\nid\n" };
	struct seed_disk d;
	char *text;

	(void)state;
	seed_open(&d, &cfg);
	text = content(&d, "/user-data");
	assert_string_equal(text, cfg.user_data);
	free(text);
	text = content(&d, "/meta-data");
	assert_non_null(strstr(text, "local-hostname: \"a\"\n"));
	assert_non_null(strstr(text, "public-keys:\n  - \"" KEY "\"\n"));
	free(text);
	seed_close(&d);
}

static void documents_of_every_length_come_back_whole(void **state)
{
	static const size_t len[] = { 0, 1, 1023, 1024, 1025, 4096, 65536, MIB(1) };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(len); i++) {
		char *doc = malloc(len[i] + 1), *back;
		struct seed_cfg cfg = { .vm_name = "a", .user_data = doc };
		struct seed_disk d;

		for (size_t k = 0; k < len[i]; k++)
			doc[k] = (char)('a' + (k * 7 + k / 1024) % 26);
		doc[len[i]] = 0;
		seed_open(&d, &cfg);
		back = content(&d, "/user-data");
		assert_string_equal(back, doc);
		free(back);
		free(doc);
		seed_close(&d);
	}
}

static void refused(const struct seed_cfg *cfg, int code, const char *text)
{
	int fd = memfd_create("seed", MFD_CLOEXEC);
	struct err e = { 0 };

	assert_int_equal(seed_build(fd, cfg, &e), code);
	assert_non_null(strstr(e.msg, text));
	assert_int_equal(lseek(fd, 0, SEEK_END), 0);
	close(fd);
}

static void host_names_that_would_leave_their_quotes_are_refused(void **state)
{
	static const char *const bad[] = { "a\"b", "a\nruncmd: x", "a b", "a/b", "a\\", "\xc3\xa4" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused(&(struct seed_cfg){ .vm_name = "v", .hostname = bad[i] }, -EINVAL, "--hostname");
}

static void private_keys_and_other_files_are_refused(void **state)
{
	(void)state;
	refused(&(struct seed_cfg){ .vm_name = "v",
				    .ssh_keys = "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-ed25519\n" },
		-EINVAL, "private key");
	refused(&(struct seed_cfg){ .vm_name = "v", .ssh_keys = "hello\n" }, -EINVAL, "no public key");
	refused(&(struct seed_cfg){ .vm_name = "v", .ssh_keys = "" }, -EINVAL, "no public key");
}

static void key_lines_that_would_leave_their_quotes_are_left_out(void **state)
{
	const struct seed_cfg cfg = { .vm_name = "v",
				      .ssh_keys = "# my keys\r\n\n" KEY "\r\n"
						  "ssh-rsa AAAA \"\nssh-rsa BBBB \\\n"
						  "ssh-rsa CC\x1b" "CC\nssh-rsa DDDD" };
	char *text = seed_user_data(&cfg);

	(void)state;
	assert_string_equal(text, "#cloud-config\nssh_authorized_keys:\n  - \"" KEY "\"\n"
				  "  - \"ssh-rsa DDDD\"\n");
	free(text);
}

static void a_document_past_its_limit_is_refused(void **state)
{
	char *doc = malloc(MIB(1) + 2);

	(void)state;
	memset(doc, 'a', MIB(1) + 1);
	doc[MIB(1) + 1] = 0;
	refused(&(struct seed_cfg){ .vm_name = "v", .user_data = doc }, -ENOSPC, "1 MiB");
	free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_disk_holds_both_documents_by_their_long_names),
		cmocka_unit_test(the_users_own_document_is_kept_and_the_key_travels_beside_it),
		cmocka_unit_test(documents_of_every_length_come_back_whole),
		cmocka_unit_test(host_names_that_would_leave_their_quotes_are_refused),
		cmocka_unit_test(private_keys_and_other_files_are_refused),
		cmocka_unit_test(key_lines_that_would_leave_their_quotes_are_left_out),
		cmocka_unit_test(a_document_past_its_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
