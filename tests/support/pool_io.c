/* SPDX-License-Identifier: MIT */
#include "pool_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int transfer_iov(const struct blk_io *io)
{
	uint64_t off = io->off;

	for (unsigned i = 0; i < io->iovcnt; i++) {
		char *p = io->iov[i].iov_base;
		size_t len = io->iov[i].iov_len;

		for (size_t n = 0; n < len;) {
			ssize_t r = io->op == BLK_IO_READ
					    ? pread(io->fd, p + n, len - n, (off_t)(off + n))
					    : pwrite(io->fd, p + n, len - n, (off_t)(off + n));

			if (r < 0)
				return -errno;
			if (r == 0) {
				memset(p + n, 0, len - n);
				break;
			}
			n += (size_t)r;
		}
		off += len;
	}
	return 0;
}

static int transfer(const struct blk_io *io)
{
	switch (io->op) {
	case BLK_IO_FDATASYNC: return fdatasync(io->fd) ? -errno : 0;
	case BLK_IO_FALLOCATE:
		return fallocate(io->fd, io->falloc_mode, (off_t)io->off, (off_t)io->len) ? -errno
											  : 0;
	default: return transfer_iov(io);
	}
}

static void *pool_thread(void *arg)
{
	struct pool_io *p = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct blk_io *io = p->todo;

		if (!io && p->stop)
			break;
		if (!io) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		p->todo = io->next;
		pthread_mutex_unlock(&p->lock);
		if (p->delay_us)
			usleep((unsigned)rand_r(&seed) % p->delay_us);
		io->thread_priv = (void *)(intptr_t)transfer(io);
		pthread_mutex_lock(&p->lock);
		io->next = p->done;
		p->done = io;
		pthread_cond_signal(&p->news);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int pool_io_start(struct pool_io *p, unsigned threads)
{
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->news, NULL);
	for (p->threads = 0; p->threads < threads; p->threads++)
		if (pthread_create(&p->thread[p->threads], NULL, pool_thread, p))
			return -EAGAIN;
	return 0;
}

void pool_io_stop(struct pool_io *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->news);
}

static void pool_submit(void *ctx, struct blk_io *io)
{
	struct pool_io *p = ctx;

	pthread_mutex_lock(&p->lock);
	io->next = p->todo; /* last in, first out: the order is nobody's to rely on */
	p->todo = io;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static void pool_wake(void *ctx)
{
	struct pool_io *p = ctx;

	pthread_mutex_lock(&p->lock);
	p->woken = true;
	pthread_cond_signal(&p->news);
	pthread_mutex_unlock(&p->lock);
}

const struct blk_io_ops pool_io_ops = { .submit = pool_submit, .wake = pool_wake };

void pool_io_poll(struct pool_io *p, bool wait)
{
	struct blk_io *io, *next;
	bool woken;

	pthread_mutex_lock(&p->lock);
	while (wait && !p->done && !p->woken)
		pthread_cond_wait(&p->news, &p->lock);
	io = p->done;
	p->done = NULL;
	woken = p->woken;
	p->woken = false;
	pthread_mutex_unlock(&p->lock);
	for (; io; io = next) {
		next = io->next;
		blk_io_done(p->q, io, (int)(intptr_t)io->thread_priv);
	}
	if (woken)
		blk_queue_run(p->q);
}
