/* SPDX-License-Identifier: Apache-2.0 */
/* config_back.h: a GGUF's metadata on the way to config.json, for the files that share the way:
 * config_back.c, config_rope.c, config_layers.c. Running out of memory is noted in `oom`. */
#ifndef LB_ARCH_CONFIG_BACK_H
#define LB_ARCH_CONFIG_BACK_H

#include "arch/arch_internal.h"

#define LB_BACK_NOTICES 32

typedef struct lb_back {
    const lb_arch *arch;
    const lb_arch_config_in *in;
    const lb_gguf_meta *meta;
    lb_str name; /* general.architecture */
    lb_hparams hp;
    u64 rope_dims; /* values of a head that are rotated */
    bool *full;    /* [n_layers] of families with windows */
    lb_arena *perm;
    lb_json *config;
    lb_json *rope; /* what rows say of its parameters, all of them of yarn */
    bool oom;
    const char *notices[LB_BACK_NOTICES];
    u32 n_notices;
    lb_err *err;
} lb_back;

void lb_back_set(lb_back *b, lb_json *object, const char *key, lb_json *value);
/* What the user is told: that something was assumed, or has no place. */
void LB_PRINTF(2, 3) lb_back_notice(lb_back *b, const char *fmt, ...);
/* "<arch>.key"; NULL: there is none. */
const lb_gguf_kv *lb_back_find(const lb_back *b, const char *key);

/* A value of the metadata; lists that say the same for every layer are one value. scale: GGUF holds
 * so many times the number of the config. */
lb_status lb_back_value(lb_back *b, const lb_gguf_kv *kv, double scale, lb_json **out);
/* Sets b->rope_dims, partial_rotary_factor. */
lb_status lb_back_rope_dims(lb_back *b);
/* rope_theta and rope_scaling as transformers 4 and mlx-lm read them, rope_parameters as 5 does. */
lb_status lb_back_rope(lb_back *b);
/* layer_types and what stands beside it. */
lb_status lb_back_layers(lb_back *b);
/* Which of them have linear attention, and the period that mlx-lm reads. */
lb_status lb_back_recurrent(lb_back *b);

#endif
