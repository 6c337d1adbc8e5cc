/* SPDX-License-Identifier: MIT */
/* Writing qcow2 follows in the next steps; until then such images are read-only. */
#include <errno.h>
#include "qcow2.h"
int qcow2_reserve(struct blk_image *img, uint64_t off, uint64_t len, struct blk_resv *out){return -ENOTSUP;}
int qcow2_commit(struct blk_image *img, struct blk_resv *rv){return -ENOTSUP;}
void qcow2_abort(struct blk_image *img, struct blk_resv *rv){}
int qcow2_zero(struct blk_image *img, uint64_t off, uint64_t len, bool unmap){return -ENOTSUP;}
int qcow2_publish(struct blk_image *img){return 0;}
void qcow2_tidy(struct blk_image *img){ table_cache_reclaim(img->blk);}
int qcow2_rebuild_refcounts(struct qcow2 *q, struct err *e){return err_set(e,-ENOTSUP,"dirty");}
int blk_check(struct blk *b, struct blk_check *out, struct err *e){return -ENOTSUP;}
