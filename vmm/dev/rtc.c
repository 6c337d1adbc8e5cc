/* SPDX-License-Identifier: MIT */
/*
 * Time registers are computed from the host's clock plus an offset, so nothing ticks.
 * While the guest holds register B's SET bit the broken-down time is frozen in @set;
 * clearing the bit turns it into a new offset. 24-hour mode only; BCD unless DM is set.
 */
#include "rtc.h"

#include <string.h>

#include "layout.h"

enum {
	RTC_SECONDS = 0x0,
	RTC_MINUTES = 0x2,
	RTC_HOURS = 0x4,
	RTC_DAY_OF_WEEK = 0x6,
	RTC_DAY = 0x7,
	RTC_MONTH = 0x8,
	RTC_YEAR = 0x9,
	RTC_REG_A = 0xa,
	RTC_REG_B = 0xb,
	RTC_REG_C = 0xc,
	RTC_REG_D = 0xd,
	RTC_CENTURY = 0x32,
};
#define RTC_A_32KHZ 0x26	/* divider on, 1024 Hz; UIP never set */
#define RTC_B_24H 0x02
#define RTC_B_BINARY 0x04
#define RTC_B_SET 0x80
#define RTC_D_VALID 0x80

static time_t rtc_host_now(void)
{
	return time(NULL);
}

static uint8_t rtc_encode(const struct rtc *d, int v)
{
	if (d->cmos[RTC_REG_B] & RTC_B_BINARY)
		return (uint8_t)v;
	return (uint8_t)(v / 10 << 4 | v % 10);
}

static int rtc_decode(const struct rtc *d, uint8_t v)
{
	if (d->cmos[RTC_REG_B] & RTC_B_BINARY)
		return v;
	return (v >> 4) * 10 + (v & 0xf);
}

static void rtc_time(const struct rtc *d, struct tm *tm)
{
	time_t t = d->now() + (time_t)d->offset_s;

	if (d->cmos[RTC_REG_B] & RTC_B_SET)
		*tm = d->set;
	else if (!gmtime_r(&t, tm))	/* a guest can wind its year past what fits */
		gmtime_r(&(time_t){ 0 }, tm);
}

static uint8_t rtc_get(struct rtc *d, uint8_t index)
{
	struct tm tm;

	rtc_time(d, &tm);
	switch (index) {
	case RTC_SECONDS: return rtc_encode(d, tm.tm_sec);
	case RTC_MINUTES: return rtc_encode(d, tm.tm_min);
	case RTC_HOURS: return rtc_encode(d, tm.tm_hour);
	case RTC_DAY_OF_WEEK: return rtc_encode(d, tm.tm_wday + 1);
	case RTC_DAY: return rtc_encode(d, tm.tm_mday);
	case RTC_MONTH: return rtc_encode(d, tm.tm_mon + 1);
	case RTC_YEAR: return rtc_encode(d, (tm.tm_year + 1900) % 100);
	case RTC_CENTURY: return rtc_encode(d, (tm.tm_year + 1900) / 100);
	case RTC_REG_A: return RTC_A_32KHZ;
	case RTC_REG_C: return 0;
	case RTC_REG_D: return RTC_D_VALID;
	}
	return d->cmos[index];
}

static void rtc_set_b(struct rtc *d, uint8_t v)
{
	bool was = d->cmos[RTC_REG_B] & RTC_B_SET, is = v & RTC_B_SET;

	if (is && !was)
		rtc_time(d, &d->set);
	if (was && !is)
		d->offset_s = timegm(&d->set) - d->now();
	d->cmos[RTC_REG_B] = v | RTC_B_24H;
}

static void rtc_put(struct rtc *d, uint8_t index, uint8_t v)
{
	struct tm tm;

	rtc_time(d, &tm);
	switch (index) {
	case RTC_SECONDS: tm.tm_sec = rtc_decode(d, v); break;
	case RTC_MINUTES: tm.tm_min = rtc_decode(d, v); break;
	case RTC_HOURS: tm.tm_hour = rtc_decode(d, v); break;
	case RTC_DAY: tm.tm_mday = rtc_decode(d, v); break;
	case RTC_MONTH: tm.tm_mon = rtc_decode(d, v) - 1; break;
	case RTC_YEAR: tm.tm_year += rtc_decode(d, v) - (tm.tm_year + 1900) % 100; break;
	case RTC_CENTURY:
		tm.tm_year = rtc_decode(d, v) * 100 - 1900 + (tm.tm_year + 1900) % 100;
		break;
	case RTC_REG_B: rtc_set_b(d, v); return;
	case RTC_DAY_OF_WEEK:
	case RTC_REG_A:
	case RTC_REG_C:
	case RTC_REG_D: return;	/* computed, or fixed */
	default: d->cmos[index] = v; return;
	}
	if (d->cmos[RTC_REG_B] & RTC_B_SET)
		d->set = tm;
	else
		d->offset_s = timegm(&tm) - d->now();
}

static void rtc_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct rtc *d = dev;

	memset(data, 0xff, len);
	if (off != 1)
		return;	/* the index port is write-only */
	pthread_mutex_lock(&d->lock);
	*(uint8_t *)data = rtc_get(d, d->index);
	pthread_mutex_unlock(&d->lock);
}

static void rtc_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct rtc *d = dev;
	uint8_t v = *(const uint8_t *)data;

	(void)len;
	pthread_mutex_lock(&d->lock);
	if (off == 0)
		d->index = v & (RTC_BYTES - 1);	/* bit 7 is the NMI mask */
	else
		rtc_put(d, d->index, v);
	pthread_mutex_unlock(&d->lock);
}

static const struct bus_ops rtc_ops = { .read = rtc_read, .write = rtc_write };

int rtc_init(struct rtc *d, struct bus *pio)
{
	*d = (struct rtc){ .now = rtc_host_now };
	d->cmos[RTC_REG_B] = RTC_B_24H;
	pthread_mutex_init(&d->lock, NULL);
	return bus_add(pio, PORT_RTC, 2, &rtc_ops, d);
}

void rtc_fini(struct rtc *d)
{
	pthread_mutex_destroy(&d->lock);
}
