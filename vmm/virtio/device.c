/* SPDX-License-Identifier: MIT */
/*
 * Status machine, feature negotiation and the change of hands of queues.
 *
 *   status 0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK      (2.1, 3.1.1)
 *                                                         | a start message a queue
 *      device_status stays as it was, everything          v
 *      else is refused: resetting  <--- write of 0 --- queues run on their I/O threads
 *        | the last virtio_queue_stopped()
 *        v
 *   status 0
 */
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hv/bytes.h"
#include "hv/fd.h"
#include "hv/overflow.h"

#define STATUS_KNOWN                                                                        \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

/* ---- queues on their I/O threads --------------------------------------------------------- */

static bool queue_wants(struct virtio_queue *q)
{
	return q->running && (!q->dev->ops->wants || q->dev->ops->wants(q));
}

static void queue_serve(struct virtio_queue *q)
{
	vq_kicks_off(&q->vq);
	q->dev->ops->kick(q);
	if (q->vq.broken)
		virtio_queue_broken(q);
}

static bool queue_poll(void *ctx)
{
	struct virtio_queue *q = ctx;

	if (!queue_wants(q) || !vq_has_avail(&q->vq))
		return false;
	queue_serve(q);
	return true;
}

static bool queue_arm(void *ctx)
{
	struct virtio_queue *q = ctx;

	return queue_wants(q) && vq_kicks_on(&q->vq);
}

static void queue_kicked(void *ctx, uint32_t events)
{
	struct virtio_queue *q = ctx;
	uint64_t n;

	/* Empty it first: a kick that comes while serving must wake again. */
	if (read(q->kick_fd, &n, sizeof(n)) < 0)
		return;
	if (q->running && !q->vq.broken)
		queue_serve(q);
}

static void queue_start(void *ctx)
{
	struct virtio_queue *q = ctx;
	int r = vq_start(&q->vq, q->dev->mem, q->size, q->desc, q->avail, q->used,
			 q->dev->features);

	q->running = true;
	if (r) {
		q->vq.broken = true;
		virtio_queue_broken(q);
		return;
	}
	if (q->dev->ops->start)
		q->dev->ops->start(q);
	iothread_add_poller(q->thread, &q->poller);
	iothread_add(q->thread, &q->kick);
	/* What came before the fd was watched, by a kick or not (kicks are on until seen). */
	queue_poll(q);
}

static void queue_stop(void *ctx)
{
	struct virtio_queue *q = ctx;
	bool was_up = q->kick.added;

	if (was_up) {
		iothread_del(&q->kick);
		iothread_del_poller(q->thread, &q->poller);
	}
	q->running = false;
	if (was_up && q->dev->ops->stop)
		q->dev->ops->stop(q);
	else
		virtio_queue_stopped(q);
}

void virtio_queue_publish(struct virtio_queue *q)
{
	vq_publish(&q->vq);
	if (vq_need_irq(&q->vq))
		q->dev->transport->queue_irq(q->dev->transport_ctx, q->index);
}

void virtio_queue_broken(struct virtio_queue *q)
{
	struct virtio_dev *d = q->dev;

	q->vq.broken = true;
	if (atomic_exchange(&d->needs_reset, true))
		return;
	log_guest(&d->log, "queue %u: the driver broke the rules, device needs reset", q->index);
	pthread_mutex_lock(&d->lock);
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK && !d->resetting)
		d->transport->config_irq(d->transport_ctx);
	pthread_mutex_unlock(&d->lock);
}

/* ---- reset ----------------------------------------------------------------------------- */

/* Lock held, no queue on any thread. */
static void reset_finish(struct virtio_dev *d)
{
	uint64_t kicks;

	if (d->ops->reset)
		d->ops->reset(d);
	for (unsigned i = 0; i < d->n_queues; i++) {
		struct virtio_queue *q = &d->queue[i];

		q->enabled = q->started = false;
		q->size = q->size_max;
		q->desc = q->avail = q->used = 0;
		/* Forget kicks of the past life; the fd does not block. */
		if (read(q->kick_fd, &kicks, sizeof(kicks)) < 0)
			continue;
	}
	d->status = 0;
	d->features = 0;
	d->generation++;
	d->resetting = false;
	atomic_store(&d->needs_reset, false);
	pthread_cond_broadcast(&d->quiet);
}

void virtio_queue_stopped(struct virtio_queue *q)
{
	struct virtio_dev *d = q->dev;

	pthread_mutex_lock(&d->lock);
	assert(d->resetting && d->running);
	if (!--d->running)
		reset_finish(d);
	pthread_mutex_unlock(&d->lock);
}

static void reset_begin(struct virtio_dev *d)
{
	if (d->resetting)
		return;
	d->resetting = true;
	if (!d->running) {
		reset_finish(d);
		return;
	}
	for (unsigned i = 0; i < d->n_queues; i++)
		if (d->queue[i].started)
			iothread_post(d->queue[i].thread, &d->queue[i].stop_msg);
}

void vdev_reset(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	reset_begin(d);
	pthread_mutex_unlock(&d->lock);
}

void vdev_quiesce(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	reset_begin(d);
	while (d->resetting)
		pthread_cond_wait(&d->quiet, &d->lock);
	pthread_mutex_unlock(&d->lock);
	if (d->ops->park)
		d->ops->park(d);
}

void vdev_unpark(struct virtio_dev *d)
{
	if (d->ops->unpark)
		d->ops->unpark(d);
}

/* ---- status ---------------------------------------------------------------------------- */

uint8_t vdev_status(struct virtio_dev *d)
{
	uint8_t s;

	pthread_mutex_lock(&d->lock);
	s = d->status;
	if (atomic_load(&d->needs_reset))
		s |= VIRTIO_CONFIG_S_NEEDS_RESET;
	pthread_mutex_unlock(&d->lock);
	return s;
}

static bool features_acceptable(const struct virtio_dev *d)
{
	uint64_t f = d->features;

	/* 3.1.1 step 5, 2.2.2: a subset of the offer; a modern device insists on VERSION_1. */
	return !(f & ~d->features_offered) && f & BIT64(VIRTIO_F_VERSION_1);
}

static void status_driver_ok(struct virtio_dev *d)
{
	int r = d->ops->activate ? d->ops->activate(d) : 0;

	if (r) {
		atomic_store(&d->needs_reset, true);
		d->transport->config_irq(d->transport_ctx);
		return;
	}
	for (unsigned i = 0; i < d->n_queues; i++) {
		struct virtio_queue *q = &d->queue[i];

		if (!q->enabled)
			continue;
		q->started = true;
		d->running++;
		iothread_post(q->thread, &q->start_msg);
	}
}

static void status_write(struct virtio_dev *d, uint8_t status)
{
	uint8_t added = status & (uint8_t)~d->status;

	if (d->status & (uint8_t)~status) {	/* 2.1.1: bits are only ever added */
		d->guest_errors++;
		log_guest(&d->log, "status 0x%x after 0x%x", status, d->status);
		return;
	}
	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable(d)) {
		log_guest(&d->log, "features 0x%llx refused", (unsigned long long)d->features);
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if (added & VIRTIO_CONFIG_S_DRIVER_OK &&
	    !((d->status | added) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		d->guest_errors++;
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	}
	d->status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		status_driver_ok(d);
}

void vdev_set_status(struct virtio_dev *d, uint8_t status)
{
	pthread_mutex_lock(&d->lock);
	if (!status)
		reset_begin(d);
	else if (d->resetting)
		d->guest_errors++;	/* 2.4.2: the driver waits for 0 first */
	else
		status_write(d, status & STATUS_KNOWN);
	pthread_mutex_unlock(&d->lock);
}

/* ---- features, queues, configuration ------------------------------------------------------ */

uint32_t vdev_features(const struct virtio_dev *d, uint32_t sel)
{
	return sel < 2 ? (uint32_t)(d->features_offered >> (32 * sel)) : 0;
}

uint32_t vdev_driver_features(struct virtio_dev *d, uint32_t sel)
{
	uint32_t v;

	pthread_mutex_lock(&d->lock);
	v = sel < 2 ? (uint32_t)(d->features >> (32 * sel)) : 0;
	pthread_mutex_unlock(&d->lock);
	return v;
}

void vdev_set_features(struct virtio_dev *d, uint32_t sel, uint32_t value)
{
	pthread_mutex_lock(&d->lock);
	if (sel >= 2 || d->resetting || d->status & VIRTIO_CONFIG_S_FEATURES_OK)
		d->guest_errors++;
	else
		d->features = (d->features & ~((uint64_t)UINT32_MAX << (32 * sel))) |
			      (uint64_t)value << (32 * sel);
	pthread_mutex_unlock(&d->lock);
}

struct virtio_queue *vdev_queue_lock(struct virtio_dev *d, unsigned i)
{
	pthread_mutex_lock(&d->lock);
	if (i < d->n_queues && !d->resetting && !(d->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return &d->queue[i];
	d->guest_errors++;
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

void vdev_queue_unlock(struct virtio_dev *d)
{
	pthread_mutex_unlock(&d->lock);
}

void vdev_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
	memset(data, 0, len);
	if (!d->ops->config_read || !range_ok(off, len, d->ops->config_len))
		return;
	pthread_mutex_lock(&d->lock);
	d->ops->config_read(d, off, data, len);
	pthread_mutex_unlock(&d->lock);
}

void vdev_config_write(struct virtio_dev *d, unsigned off, const void *data, unsigned len)
{
	pthread_mutex_lock(&d->lock);
	if (d->ops->config_write && range_ok(off, len, d->ops->config_len) && !d->resetting)
		d->ops->config_write(d, off, data, len);
	else
		d->guest_errors++;
	pthread_mutex_unlock(&d->lock);
}

uint8_t vdev_generation(struct virtio_dev *d)
{
	uint8_t g;

	pthread_mutex_lock(&d->lock);
	g = d->generation;
	pthread_mutex_unlock(&d->lock);
	return g;
}

void vdev_config_changed(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	d->generation++;
	if (d->transport && d->status & VIRTIO_CONFIG_S_DRIVER_OK && !d->resetting)
		d->transport->config_irq(d->transport_ctx);
	pthread_mutex_unlock(&d->lock);
}

/* ---- life ------------------------------------------------------------------------------- */

static int queue_init(struct virtio_dev *d, unsigned i, struct iothread *thread)
{
	struct virtio_queue *q = &d->queue[i];

	q->dev = d;
	q->index = i;
	q->thread = thread;
	q->size = q->size_max = d->ops->queue_size_max;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0)
		return -errno;
	q->kick = (struct iothread_source){ .fn = queue_kicked, .ctx = q, .fd = q->kick_fd,
					    .events = EPOLLIN, .kick_only = true };
	q->poller = (struct iothread_poller){ .poll = queue_poll, .arm = queue_arm, .ctx = q };
	q->start_msg = (struct iothread_msg){ .fn = queue_start, .ctx = q };
	q->stop_msg = (struct iothread_msg){ .fn = queue_stop, .ctx = q };
	return 0;
}

int vdev_init(struct virtio_dev *d, const struct virtio_dev_ops *ops, uint64_t features,
	      unsigned n_queues, struct iothread *const *threads, unsigned n_threads, struct err *e)
{
	assert(n_queues && n_queues <= ops->queues_max && n_queues <= VIRTIO_QUEUES_MAX);
	assert(n_threads && !(features & ~ops->features_max));
	*d = (struct virtio_dev){ .ops = ops, .features_offered = features };
	d->log.dev = ops->name;
	d->queue = calloc(n_queues, sizeof(*d->queue));
	if (!d->queue)
		return err_set(e, -ENOMEM, "%s: out of memory", ops->name);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->quiet, NULL);
	for (; d->n_queues < n_queues; d->n_queues++) {
		int r = queue_init(d, d->n_queues, threads[d->n_queues % n_threads]);

		if (r) {
			vdev_fini(d);
			return err_set(e, r, "%s: eventfd: %s", ops->name, strerror(-r));
		}
	}
	return 0;
}

void vdev_fini(struct virtio_dev *d)
{
	assert(!d->running);
	for (unsigned i = 0; i < d->n_queues; i++)
		fd_close(&d->queue[i].kick_fd);
	free(d->queue);
	pthread_cond_destroy(&d->quiet);
	pthread_mutex_destroy(&d->lock);
}

void vdev_free(struct virtio_dev *d)
{
	if (d)
		d->ops->free(d);
}
