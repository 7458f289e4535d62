/* SPDX-License-Identifier: Apache-2.0 */
/* shuffle.h: merge files of layers drawn at random from several models (mergekit-layershuffle).
 *
 * Pure: from models, weights and numbers of layers to the text of a merge file. The draws are those
 * of Python's `random` after random.seed(SEED), call by call as mergekit 0.1.5 makes them, which
 * itself does not seed. Layers of one model that follow each other are one slice: mergekit means to
 * do that too (it compares a text with an object). */
#ifndef LB_MERGE_SHUFFLE_H
#define LB_MERGE_SHUFFLE_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_shuffle_model {
    lb_str text; /* as a merge file names it */
    double weight;
    u64 n_layers; /* for whoever opens the models to fill in */
    u32 line;     /* of the file; 0: an option */
} lb_shuffle_model;

typedef struct lb_shuffle {
    lb_shuffle_model *models;
    u32 n_models;
    bool full_random; /* any layer at any place, weight x layers of each model */
    lb_str dtype;     /* "float16"; empty: the models' own */
    bool has_seed;
    u64 seed;
} lb_shuffle;

/* The file: models (model, weight: 1), full_random, dtype, random_seed. Messages as in config.h. */
lb_status lb_shuffle_parse(lb_str text, const char *what, lb_arena *perm, lb_shuffle *out,
                           lb_err *err);
/* Appends the merge file. LB_E_FORMAT: weights that are none, a model with too few layers. */
lb_status lb_shuffle_make(const lb_shuffle *s, u64 seed, lb_buf *yaml, lb_err *err);

#endif
