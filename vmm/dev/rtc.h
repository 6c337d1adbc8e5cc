/* SPDX-License-Identifier: MIT */
/* rtc.h - MC146818 clock and CMOS bytes on ports 0x70/0x71; UTC; no alarm, no interrupt. */
#ifndef HV_VMM_DEV_RTC_H
#define HV_VMM_DEV_RTC_H

#include <pthread.h>
#include <time.h>

#include "bus.h"

#define RTC_BYTES 128

struct rtc {
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t cmos[RTC_BYTES];	/* control registers and free bytes; time is computed */
	int64_t offset_s;		/* guest time minus host time */
	struct tm set;			/* time being set while register B's SET bit is on */
	time_t (*now)(void);		/* the host's clock; replaceable in tests */
};

int rtc_init(struct rtc *d, struct bus *pio);
void rtc_fini(struct rtc *d);

#endif
