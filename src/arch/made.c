/* SPDX-License-Identifier: Apache-2.0 */
/* made.c: tensors that a GGUF holds and an HF folder does not.
 *
 * Source: conversion/llama.py, generate_extra_tensors of llama-cpp-python 0.3.36 (with its defaults
 * for absent keys). */
#include "arch/arch_internal.h"

static lb_status llama3_params(const lb_arch_normal *n, lb_rope_llama3 *p, lb_err *err) {
    const struct {
        const char *name;
        double *out, fallback;
    } field[] = {
        {"@rope_theta", &p->theta, 10000},
        {"@factor", &p->factor, 8},
        {"@low_freq_factor", &p->low, 1},
        {"@high_freq_factor", &p->high, 4},
        {"@original_max_position_embeddings", &p->orig, 8192},
    };
    for (size_t i = 0; i < LB_LEN(field); i++) {
        const lb_json *v = lb_arch_pick(n, field[i].name);
        *field[i].out = field[i].fallback;
        if ((v && !lb_json_as_f64(v, field[i].out)) || !(*field[i].out > 0) ||
            !(*field[i].out < 1e30))
            return lb_fail(err, LB_E_FORMAT,
                           "config.json: '%s' of the rope parameters is not a positive number",
                           field[i].name + 1);
    }
    return LB_OK;
}

static lb_status make_factors(const lb_arch_normal *n, lb_arena *perm, lb_arch_made_tensor *out,
                              lb_err *err) {
    lb_rope_llama3 p;
    u64 head_dim, n_embd, n_head;
    LB_TRY(llama3_params(n, &p, err));
    const lb_json *hd = lb_arch_pick(n, "head_dim");
    if (hd && hd->type != LB_JNULL) {
        LB_TRY(lb_arch_pick_u64(n, "head_dim", &head_dim, err));
    } else {
        LB_TRY(lb_arch_pick_u64(n, "hidden_size", &n_embd, err));
        LB_TRY(lb_arch_pick_u64(n, "num_attention_heads", &n_head, err));
        head_dim = n_embd / n_head;
    }
    if (head_dim > 65536 || head_dim < 2 || head_dim % 2 != 0)
        return lb_fail(err, LB_E_FORMAT, "config.json: a head of %llu values cannot be rotated",
                       (unsigned long long)head_dim);
    float *values = lb_arena_new(perm, float, head_dim / 2);
    if (!values)
        return lb_fail(err, LB_E_NOMEM, "rope_freqs.weight: out of memory");
    lb_rope_llama3_factors(&p, head_dim, values);
    out->name = LB_STR("rope_freqs.weight");
    out->shape = (lb_shape){.rank = 1, .dim = {head_dim / 2}};
    out->values = values;
    return LB_OK;
}

lb_status lb_arch_made(const lb_arch *a, const lb_json *config, lb_arena *perm,
                       lb_arch_made_tensor **out, u32 *n, lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_normal normal;
    lb_str type;
    lb_status st = LB_OK;
    *out = NULL;
    *n = 0;
    if (!(a->flags & LB_ARCH_ROPE_FREQS))
        return LB_OK;
    LB_TRY_DONE(st, lb_arch_normalise(config, &scratch, &normal, err));
    if (!lb_json_as_str(lb_arch_pick(&normal, "@rope_type"), &type) || !lb_str_eq_c(type, "llama3"))
        goto done;
    *out = lb_arena_new(perm, lb_arch_made_tensor, 1);
    if (!*out)
        st = lb_fail(err, LB_E_NOMEM, "rope_freqs.weight: out of memory");
    else
        st = make_factors(&normal, perm, *out, err);
    *n = st == LB_OK;
done:
    lb_arena_deinit(&scratch);
    return st;
}
