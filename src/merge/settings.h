/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h: values of a method's parameters for one tensor. Layer merge only. */
#ifndef LB_MERGE_SETTINGS_H
#define LB_MERGE_SETTINGS_H

#include "merge/outline.h"

/* Every setting of the file: its name is a parameter of the method, its values are of the
 * parameter's kind and in its range. Names that are parameters of other methods only become notes.
 * notes: room for all settings of the file (lb_merge_settings_count). */
lb_status lb_merge_settings_check(const lb_merge_config *c, const lb_merge_method *m,
                                  lb_arena *perm, lb_str *notes, u32 *n_notes, lb_err *err);
u32 lb_merge_settings_count(const lb_merge_config *c);

/* The files that parameters of the method name, each once, in the order of the file. All memory is
 * the arena's. */
lb_status lb_merge_settings_files(const lb_merge_config *c, const lb_merge_method *m,
                                  lb_arena *perm, lb_merge_files *out, lb_err *err);

typedef struct lb_merge_place {
    const lb_merge_config *config;
    const lb_merge_files *files;
    const lb_merge_settings *levels[4]; /* the first that says something counts; NULL: none */
    lb_str tensor;                      /* filters look for their text in it */
    double t;                           /* 0 to 1, for gradients */
    const char *model;                  /* of an input, for messages; NULL: of none */
    int model_len;
    bool implied; /* the base, which the file does not list */
} lb_merge_place;

/* settings_check was fine with the file. */
lb_status lb_merge_setting_value(const lb_merge_place *at, const lb_merge_param *p, double *out,
                                 lb_err *err);

#endif
