/* SPDX-License-Identifier: Apache-2.0 */
/* layershuffle.h: a merge of layers drawn at random, as a merge file. */
#ifndef LB_OPS_LAYERSHUFFLE_H
#define LB_OPS_LAYERSHUFFLE_H

#include "base/base.h"
#include "base/mem.h"
#include "merge/shuffle.h"

/* Looks into the models for their numbers of layers and appends the merge file's text. file: the
 * one that s was read from, beside which models may stand; or NULL. Models: as lb_merge_open
 * finds them. */
lb_status lb_layershuffle_text(lb_shuffle *s, const char *file, u64 seed, lb_buf *yaml,
                               lb_err *err);

#endif
