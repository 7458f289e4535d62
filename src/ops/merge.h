/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h: a merge file as a model that is computed. */
#ifndef LB_OPS_MERGE_H
#define LB_OPS_MERGE_H

#include "merge/vocab.h"
#include "ops/computed.h"

typedef struct lb_merge_opts {
    lb_merge_rounding rounding;
    u64 seed;
    bool keep;         /* tensors have the types of the base */
    bool raw;          /* a file of mergekit-pytorch: tensors by name, without a family */
    bool unite;        /* raw: also tensors that some models lack */
    bool intersect;    /* raw: only those that all have */
    const char *named; /* the document of this name, not the last one; or NULL */
    const struct lb_merge_around *around; /* NULL but for a merge within one */
    lb_str text;                          /* ptr not NULL: of the file, which is not read */
    const char *file;                     /* with text: that it was made from, or NULL */
} lb_merge_opts;

/* The merge files that a merge is an input of. */
typedef struct lb_merge_around {
    const char *path;
    const struct lb_merge_around *around;
} lb_merge_around;
#define LB_MERGE_DEPTH_MAX 16

/* What lb_source.computed of a merge points to. */
typedef struct lb_merge {
    lb_computed computed; /* first */
    lb_merge_opts opts;
    const lb_merge_config *config;
    lb_merge_outline outline; /* tensor i is weight i of the source */
    lb_vocab vocab;           /* n_ids 0: the file has no rules for tokens */
    lb_str text;              /* of the file */
} lb_merge;

/* Whether a file that begins so may be a merge file, and is named like one. */
bool lb_merge_is_file(const char *path);
/* Opens the file and its models. Paths in it are as they stand, or else beside the file, or else in
 * the hub's cache. Errors name line and key, model and tensor. */
lb_status lb_merge_open(lb_source **out, const char *path, const lb_merge_opts *o, lb_err *err);
/* The options as those of a command, for provenance; and back from it. ptr NULL: out of memory. */
lb_str lb_merge_opts_text(const lb_merge_opts *o, lb_arena *perm);
void lb_merge_opts_of(lb_str text, lb_merge_opts *out);
/* Names of the documents of a file but the last, in the order in which they are made; nameless ones
 * are left out. In the arena. */
lb_status lb_merge_names(const char *path, lb_arena *perm, lb_str **names, u32 *n, lb_err *err);
/* A model that a file names (r->merge: none), as lb_merge_open finds it. s: what is being opened;
 * its path is the file's. */
lb_status lb_merge_open_ref(lb_source **out, lb_source *s, const lb_merge_ref *r,
                            const lb_merge_opts *o, lb_err *err);

#endif
