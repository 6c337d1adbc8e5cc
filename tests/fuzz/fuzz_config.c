/* SPDX-License-Identifier: MIT */
/* The command line of `vmm run`: words are the input's lines. */
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define WORDS_MAX 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the machine relies on once a command line was taken. */
static void check(const struct config *c)
{
	if (!c->n_disks && !c->kernel)
		abort();
	if (!c->cpus || c->memory_bytes < MIB(2))
		abort();
	for (unsigned i = 0; i < c->n_disks; i++)
		if (!c->disk[i].path || !c->disk[i].queues || c->disk[i].cache > BLK_CACHE_UNSAFE)
			abort();
	for (unsigned i = 0; i < c->n_nets; i++)
		if (!c->net[i].queues || c->net[i].queues > CONFIG_NET_QUEUES_MAX ||
		    (c->net[i].mac_given && c->net[i].mac[0] & 1))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *word[WORDS_MAX + 1] = { (char *)"run" }, *save = NULL;
	static struct config c;
	struct err e = { 0 };
	int n = 1;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	for (char *w = strtok_r(text, "\n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, "\n", &save))
		word[n++] = w;
	if (!config_parse_run(&c, n, word, &e) && !c.help)
		check(&c);
	else if (!c.help && (!e.code || !*e.msg))
		abort();
	config_fini(&c);
	free(text);
	return 0;
}
