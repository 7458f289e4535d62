/* SPDX-License-Identifier: Apache-2.0 */
/* made.c: tensors that a GGUF holds and an HF folder does not.
 *
 * Source: generate_extra_tensors of conversion/llama.py (with its defaults for absent keys),
 * conversion/phi.py and conversion/gemma.py of llama-cpp-python 0.3.36. */
#include "arch/arch_internal.h"
#include <float.h>

/* Values of a head. */
#define ROPE_DIMS_MAX 65536

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

static lb_status make(const char *name, u64 n, lb_arena *perm, lb_arch_made_tensor *out,
                      float **values, lb_err *err) {
    *values = lb_arena_new(perm, float, n);
    *out = (lb_arch_made_tensor){
        .name = lb_str_c(name), .shape = {.rank = 1, .dim = {n}}, .values = *values};
    return *values ? LB_OK : lb_fail(err, LB_E_NOMEM, "%s: out of memory", name);
}

static lb_status check_dims(u64 dims, lb_err *err) {
    if (dims <= ROPE_DIMS_MAX && dims >= 2 && dims % 2 == 0)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "config.json: a head of %llu values cannot be rotated",
                   (unsigned long long)dims);
}

static lb_status rotated(const lb_arch *a, const lb_arch_normal *n, u64 *dims, lb_err *err) {
    LB_TRY(lb_arch_rope_dims(a, n, dims, err));
    return check_dims(*dims, err);
}

static lb_status make_llama3(const lb_arch *a, const lb_arch_normal *n, lb_arena *perm,
                             lb_arch_made_tensor *out, lb_err *err) {
    lb_rope_llama3 p;
    u64 dims;
    float *values;
    LB_TRY(llama3_params(n, &p, err));
    LB_TRY(rotated(a, n, &dims, err));
    LB_TRY(make("rope_freqs.weight", dims / 2, perm, out, &values, err));
    lb_rope_llama3_factors(&p, dims, values);
    return LB_OK;
}

static lb_status make_list(const char *name, const lb_json *list, u64 n, lb_arena *perm,
                           lb_arch_made_tensor *out, lb_err *err) {
    float *values;
    double v;
    if (!list || list->type != LB_JARRAY || list->n != n)
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: longrope's long_factor and short_factor are lists of %llu "
                       "numbers, one for each pair of values of a head",
                       (unsigned long long)n);
    LB_TRY(make(name, n, perm, out, &values, err));
    for (const lb_json *e = list->first; e; e = e->next) {
        if (!lb_json_as_f64(e, &v) || !(v > 0) || !(v <= (double)FLT_MAX))
            return lb_fail(err, LB_E_FORMAT,
                           "config.json: a factor of longrope is not a positive number");
        *values++ = (float)v;
    }
    return LB_OK;
}

static lb_status make_longrope(const lb_arch *a, const lb_arch_normal *n, lb_arena *perm,
                               lb_arch_made_tensor *out, lb_err *err) {
    u64 dims;
    LB_TRY(rotated(a, n, &dims, err));
    LB_TRY(make_list("rope_factors_long.weight", lb_arch_pick(n, "@long_factor"), dims / 2, perm,
                     &out[0], err));
    return make_list("rope_factors_short.weight", lb_arch_pick(n, "@short_factor"), dims / 2, perm,
                     &out[1], err);
}

/* llama.cpp rotates the first values of a head only: the others' wavelength is made endless. */
static lb_status make_share(const lb_arch *a, const lb_arch_normal *n, lb_arena *perm,
                            lb_arch_made_tensor *out, lb_err *err) {
    u64 dims;
    double part;
    float *values;
    if (!lb_json_as_f64(lb_arch_pick(n, "@partial_rotary_factor"), &part) ||
        !(part >= 0 && part <= 1))
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: proportional rope needs partial_rotary_factor, from 0 to 1");
    LB_TRY(lb_arch_pick_u64(n, "global_head_dim", &dims, err));
    LB_TRY(check_dims(dims, err));
    LB_TRY(make("rope_freqs.weight", dims / 2, perm, out, &values, err));
    u64 rotated_dims = (u64)((double)dims * part / 2);
    for (u64 i = 0; i < dims / 2; i++)
        values[i] = i < rotated_dims ? 1.0f : 1e30f;
    (void)a;
    return LB_OK;
}

static const struct {
    u32 flag;
    const char *type;
    u32 n;
    lb_status (*make)(const lb_arch *a, const lb_arch_normal *n, lb_arena *perm,
                      lb_arch_made_tensor *out, lb_err *err);
} rules[] = {{LB_ARCH_ROPE_FREQS, "llama3", 1, make_llama3},
             {LB_ARCH_LONGROPE, "longrope", 2, make_longrope},
             {LB_ARCH_ROPE_SHARE, "proportional", 1, make_share}};

lb_status lb_arch_made_rope(const lb_arch *a, const lb_arch_normal *n, u32 flags, lb_arena *perm,
                            lb_arch_made_tensor *out, u32 *n_out, lb_err *err) {
    lb_str type;
    *n_out = 0;
    if (!lb_json_as_str(lb_arch_pick(n, "@rope_type"), &type))
        return LB_OK;
    for (size_t i = 0; i < LB_LEN(rules); i++) {
        if (!(flags & rules[i].flag) || !lb_str_eq_c(type, rules[i].type))
            continue;
        LB_TRY(rules[i].make(a, n, perm, out, err));
        *n_out = rules[i].n;
    }
    return LB_OK;
}

lb_status lb_arch_made(const lb_arch *a, const lb_json *config, lb_arena *perm,
                       lb_arch_made_tensor **out, u32 *n, lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_normal normal;
    lb_status st = LB_OK;
    *out = NULL;
    *n = 0;
    if (!(a->flags & (LB_ARCH_ROPE_FREQS | LB_ARCH_LONGROPE | LB_ARCH_ROPE_SHARE)))
        return LB_OK;
    LB_TRY_DONE(st, lb_arch_normalise(config, &scratch, &normal, err));
    *out = lb_arena_new(perm, lb_arch_made_tensor, LB_ARCH_MADE_MAX);
    if (!*out)
        LB_TRY_DONE(st, lb_fail(err, LB_E_NOMEM, "out of memory for rope factors"));
    st = lb_arch_made_rope(a, &normal, a->flags, perm, *out, n, err);
    if (st != LB_OK || !*n)
        *out = NULL;
done:
    lb_arena_deinit(&scratch);
    return st;
}
