/* SPDX-License-Identifier: MIT */
/*
 * unpacker.h - the one-shot process that unpacks one kernel: payload descriptor in, memfd out.
 *
 * It has two descriptors, no way to open a third, and a filter that lets it compute, read,
 * write and end. The launcher starts it, goes on with its loop, and collects it on SIGCHLD.
 */
#ifndef HV_VMM_BOOT_UNPACKER_H
#define HV_VMM_BOOT_UNPACKER_H

#include "hv/base.h"
#include "hv/err.h"

struct unpacker {
	pid_t pid;  /* 0: none */
	int out_fd; /* memfd with the kimage, once the process has ended well */
};

/** unpacker_start - fork it; @payload_fd (sealed, @len bytes) stays the caller's. Single thread. */
int unpacker_start(struct unpacker *u, int payload_fd, size_t len, struct err *e);
/**
 * unpacker_finish - after waitpid() told @wstatus
 *
 * Return: 0 with *@image_fd, sealed and the caller's; else why not: -ENOTSUP, -EBADMSG,
 * -ENOEXEC, ..., -ECHILD if a signal or the filter ended it.
 */
int unpacker_finish(struct unpacker *u, int wstatus, int *image_fd, struct err *e);
/** unpacker_cancel - kill and reap it, if it runs. */
void unpacker_cancel(struct unpacker *u);

#endif
