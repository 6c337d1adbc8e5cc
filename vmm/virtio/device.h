/* SPDX-License-Identifier: MIT */
/*
 * device.h - what all virtio devices share: status, features, queues and their threads.
 *
 * Registers are under vdev.lock (vCPU threads, main thread). Between DRIVER_OK and the end
 * of a reset a queue belongs to its I/O thread; it changes hands by messages: start, stop,
 * and the acknowledgement by virtio_queue_stopped(). Until all queues have acknowledged,
 * device_status reads non-zero (VIRTIO 1.2, 4.1.4.3.2); no vCPU waits.
 */
#ifndef HV_VMM_VIRTIO_DEVICE_H
#define HV_VMM_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "gmem.h"
#include "hv/base.h"
#include "hv/err.h"
#include "hv/log.h"
#include "io/iothread.h"
#include "irq.h"
#include "virtio/virtqueue.h"

#define VIRTIO_QUEUES_MAX 129

struct pci_bus;
struct virtio_dev;
struct virtio_queue;

/* A type of device: constant; an instance may offer less (struct virtio_dev). */
struct virtio_dev_ops {
	const char *name;
	uint16_t device_id;
	uint32_t class_code;	/* PCI */
	unsigned queues_max;
	uint16_t queue_size_max;
	uint64_t features_max;
	uint16_t config_len;	/* bytes */
	/* Device configuration, within config_len. vCPU, vdev.lock held. */
	void (*config_read)(struct virtio_dev *d, unsigned off, void *data, unsigned len);
	void (*config_write)(struct virtio_dev *d, unsigned off, const void *data, unsigned len);
	/* Optional: DRIVER_OK seen, d->features final; vCPU, vdev.lock held. 0 or NEEDS_RESET. */
	int (*activate)(struct virtio_dev *d);
	/* Optional: the queue is this thread's now. I/O thread. */
	void (*start)(struct virtio_queue *q);
	/* Buffers may be available: serve a bounded number of them. I/O thread. */
	void (*kick)(struct virtio_queue *q);
	/* Optional: does the queue wait for buffers at all (receive queues)? I/O thread. */
	bool (*wants)(struct virtio_queue *q);
	/*
	 * Optional: give the queue up; no kick comes any more. virtio_queue_stopped() is due
	 * as soon as nothing of it is in flight, here or later. I/O thread.
	 */
	void (*stop)(struct virtio_queue *q);
	/* Optional: reset is complete, no thread is in the device. */
	void (*reset)(struct virtio_dev *d);
	/* Optional: let go of shared resources after vdev_quiesce(), take them again. Main thread. */
	void (*park)(struct virtio_dev *d);
	void (*unpark)(struct virtio_dev *d);
	/* Release the instance, fds included; @d is part of it. */
	void (*free)(struct virtio_dev *d);
};

struct virtio_transport_ops {
	void (*queue_irq)(void *ctx, unsigned queue);	/* any thread */
	void (*config_irq)(void *ctx);			/* any thread */
};

struct virtio_queue {
	struct virtqueue vq;	/* the I/O thread's while @running */
	struct virtio_dev *dev;
	unsigned index;
	struct iothread *thread;
	bool running;		/* I/O thread */
	void *priv;		/* the device's */
	int kick_fd;
	struct iothread_source kick;
	struct iothread_poller poller;
	struct iothread_msg start_msg, stop_msg;
	/* As the driver set them; vdev.lock, constant between DRIVER_OK and reset. */
	bool enabled;
	bool started;		/* a start message was sent */
	uint16_t size, size_max;
	uint64_t desc, avail, used;
};

struct virtio_dev {
	const struct virtio_dev_ops *ops;
	const struct virtio_transport_ops *transport;
	void *transport_ctx;
	struct gmem *mem;
	struct log_ctx log;
	pthread_mutex_t lock;
	pthread_cond_t quiet;		/* @running became 0 */
	uint64_t features_offered;
	uint64_t features;		/* as the driver accepted them so far */
	uint8_t status;
	uint8_t generation;		/* of device configuration */
	bool resetting;
	unsigned running;		/* queues not yet given back */
	_Atomic bool needs_reset;
	uint64_t guest_errors;		/* dropped writes and the like */
	unsigned n_queues;
	struct virtio_queue *queue;
};

/* ---- for the device implementations -------------------------------------------------- */

/**
 * vdev_init - common part of an instance
 * @threads: queue i is served by threads[i % n_threads]; borrowed for the device's life
 */
int vdev_init(struct virtio_dev *d, const struct virtio_dev_ops *ops, uint64_t features,
	      unsigned n_queues, struct iothread *const *threads, unsigned n_threads,
	      struct err *e);
/** vdev_fini - counterpart; the device is quiet. */
void vdev_fini(struct virtio_dev *d);
static inline bool vdev_has(const struct virtio_dev *d, unsigned bit)
{
	return d->features >> bit & 1;
}
/** virtio_queue_publish - show pushed chains to the driver, interrupt if it wants. I/O thread. */
void virtio_queue_publish(struct virtio_queue *q);
/** virtio_queue_broken - the driver broke the rules: NEEDS_RESET and config interrupt. I/O thread. */
void virtio_queue_broken(struct virtio_queue *q);
/** virtio_queue_stopped - acknowledge stop: nothing in flight, the queue untouched from now. */
void virtio_queue_stopped(struct virtio_queue *q);
/** vdev_config_changed - the device changed its configuration: next generation, interrupt. */
void vdev_config_changed(struct virtio_dev *d);

/* ---- for the transport: vCPU threads; each takes vdev.lock ----------------------------- */

uint8_t vdev_status(struct virtio_dev *d);
void vdev_set_status(struct virtio_dev *d, uint8_t status);
/** vdev_features - offered features, 32-bit half @sel. */
uint32_t vdev_features(const struct virtio_dev *d, uint32_t sel);
void vdev_set_features(struct virtio_dev *d, uint32_t sel, uint32_t value);
uint32_t vdev_driver_features(struct virtio_dev *d, uint32_t sel);
/** vdev_queue_lock - queue @i if the driver may configure it now, with the lock held; or NULL. */
struct virtio_queue *vdev_queue_lock(struct virtio_dev *d, unsigned i);
void vdev_queue_unlock(struct virtio_dev *d);
void vdev_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len);
void vdev_config_write(struct virtio_dev *d, unsigned off, const void *data, unsigned len);
uint8_t vdev_generation(struct virtio_dev *d);
/** vdev_reset - as a status write of 0: completes at once or when the I/O threads let go. */
void vdev_reset(struct virtio_dev *d);
/** vdev_quiesce - reset, wait for its end and park. Main thread; the I/O threads run. */
void vdev_quiesce(struct virtio_dev *d);
/** vdev_unpark - undo what vdev_quiesce() did besides the reset. Main thread; idempotent. */
void vdev_unpark(struct virtio_dev *d);
/** vdev_free - release an instance that was not (or is no longer) behind a transport. */
void vdev_free(struct virtio_dev *d);

/* ---- the only transport: virtio/pci.c -------------------------------------------------- */

/**
 * virtio_pci_add - put @d behind virtio-pci on @bus, next free slot
 *
 * On success the bus owns @d (pci_bus_fini frees it); on failure it is still the caller's.
 */
int virtio_pci_add(struct pci_bus *bus, struct virtio_dev *d, struct gmem *mem, struct irq *irq,
		   struct err *e);

#endif
