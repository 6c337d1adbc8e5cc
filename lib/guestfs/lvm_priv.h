/* SPDX-License-Identifier: MIT */
/*
 * lvm_priv.h - LVM2's text metadata as a tree: sections of keys with strings, numbers
 * or lists of them.
 */
#ifndef HV_LVM_PRIV_H
#define HV_LVM_PRIV_H

#include "hv/base.h"

#define LVM_TEXT_MAX MIB(1) /* bytes; what lvm2's default area holds */
#define LVM_NODES_MAX 50000u
#define LVM_DEPTH_MAX 8u

struct lvm_text;

/** lvm_text_parse - takes over @text (malloc'd, NUL-terminated); NULL if it is no such text. */
struct lvm_text *lvm_text_parse(char *text);
void lvm_text_free(struct lvm_text *t);

/* Nodes are indices; -1 stands for "none" and is accepted everywhere. 0 is the whole. */
int lvm_text_first(const struct lvm_text *t, int node);
int lvm_text_next(const struct lvm_text *t, int node);
/** lvm_text_find - the child of a section called @key, or -1. */
int lvm_text_find(const struct lvm_text *t, int node, const char *key);
bool lvm_text_is_section(const struct lvm_text *t, int node);
const char *lvm_text_key(const struct lvm_text *t, int node);
/** lvm_text_string - a string's text, NULL if the node is none. */
const char *lvm_text_string(const struct lvm_text *t, int node);
/** lvm_text_number - false, with *@out unchanged, if the node is no number >= 0. */
bool lvm_text_number(const struct lvm_text *t, int node, uint64_t *out);

#endif
