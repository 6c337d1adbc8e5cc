/* SPDX-License-Identifier: MIT */
/*
 * unpack_job.h - the launcher's answer to LINK_UNPACK: hash the payload, look it up, else have
 * it unpacked by a helper process and keep the result.
 *
 * At most one at a time: the machine waits for the answer. Launcher's thread only.
 */
#ifndef HV_VMM_UNPACK_JOB_H
#define HV_VMM_UNPACK_JOB_H

#include "boot/unpacker.h"
#include "hv/checksum.h"

struct unpack_job {
	struct unpacker helper; /* pid 0: no job */
	int link_fd, dir_fd;
	uint8_t digest[SHA256_BYTES];
};

/** unpack_job_start - answers over @link_fd at once, or when the helper has ended. */
void unpack_job_start(struct unpack_job *j, int link_fd, int payload_fd);
/** unpack_job_reap - SIGCHLD came: answer if it was the helper. */
void unpack_job_reap(struct unpack_job *j);
/** unpack_job_cancel - kill the helper and answer that there is nothing. Idempotent. */
void unpack_job_cancel(struct unpack_job *j);

#endif
