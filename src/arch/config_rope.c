/* SPDX-License-Identifier: Apache-2.0 */
/* config_rope.c: GGUF metadata and rope tensors -> the rope parameters of a config.json. Rules:
 * rope_factors.c. */
#include "arch/config_back.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

/* ---- how much of a head is rotated ---- */

/* The share of a head that makes so many values: the quotient where it is a short number (0.75),
 * else the shortest that gives them (0.4 of 96 are 38). */
static lb_json *share_of(lb_back *b, u64 dims) {
    const double whole = (double)b->hp.head_dim, quotient = (double)dims / whole;
    for (int exact = 1; exact >= 0; exact--)
        for (int digits = 1; digits <= (exact ? 4 : 17); digits++) {
            char text[32];
            double x = 0;
            snprintf(text, sizeof text, "%.*g", digits, quotient);
            const lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(text)};
            if (lb_json_as_f64(&number, &x) && x <= 1 && (u64)(whole * x) == dims &&
                (!exact || whole * x == (double)dims))
                return lb_json_new_f64(b->perm, x);
        }
    return lb_json_new_f64(b->perm, nextafter(quotient, 1)); /* whole * quotient was rounded down */
}

lb_status lb_back_rope_dims(lb_back *b) {
    const lb_gguf_kv *kv = lb_back_find(b, "rope.dimension_count");
    const lb_arch_kv *row = lb_arch_rope_dims_row(b->arch);
    u64 n = b->rope_dims = b->hp.head_dim;
    if (kv && (!lb_kv_as_u64(kv, &n) || n == 0 || n > b->hp.head_dim))
        return lb_fail(b->err, LB_E_FORMAT,
                       "GGUF metadata: '%.*s' is not a number of up to %llu values of a head",
                       LB_FMT(kv->key), (unsigned long long)b->hp.head_dim);
    if (!row && n != b->hp.head_dim)
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: only %llu of %llu values of a head are rotated: config.json "
                       "of '%s' has no form for that",
                       (unsigned long long)n, (unsigned long long)b->hp.head_dim, b->arch->family);
    b->rope_dims = n;
    if (row && row->of)
        lb_back_set(b, b->config, row->of, lb_json_new_u64(b->perm, n));
    else if (row && (n != b->hp.head_dim || b->arch->rotary))
        lb_back_set(b, b->config, "partial_rotary_factor", share_of(b, n));
    return LB_OK;
}

/* ---- scaling ---- */

static void scaling_f32(lb_back *b, lb_json *rope, const char *key, const char *hf) {
    const lb_gguf_kv *kv = lb_back_find(b, key);
    double f;
    if (lb_kv_as_f64(kv, &f) && fabs(f) <= (double)FLT_MAX)
        lb_back_set(b, rope, hf, lb_arch_json_f32(b->perm, (float)f));
}

static lb_status yarn(lb_back *b, lb_json *rope) {
    u64 orig = b->hp.n_ctx;
    double ext = 1;
    lb_kv_as_u64(lb_back_find(b, "rope.scaling.original_context_length"), &orig);
    lb_back_set(b, rope, "original_max_position_embeddings", lb_json_new_u64(b->perm, orig));
    scaling_f32(b, rope, "rope.scaling.yarn_attn_factor", "attention_factor");
    scaling_f32(b, rope, "rope.scaling.yarn_beta_fast", "beta_fast");
    scaling_f32(b, rope, "rope.scaling.yarn_beta_slow", "beta_slow");
    scaling_f32(b, rope, "rope.scaling.yarn_ext_factor", "extrapolation_factor");
    if (lb_kv_as_f64(lb_back_find(b, "rope.scaling.yarn_ext_factor"), &ext) && ext != 1)
        lb_back_notice(b, "yarn's extrapolation factor %g is not read by transformers", ext);
    return LB_OK;
}

/* What the family's rows say of a scaling rule. */
static lb_status scaling_rows(lb_back *b, lb_json *rope) {
    for (u32 i = 0; i < b->arch->n_kv; i++) {
        const lb_arch_kv *row = &b->arch->kv[i];
        const lb_gguf_kv *kv = row->flags & LB_KVF_ROPE ? lb_back_find(b, row->key) : NULL;
        double f;
        if (!kv || (lb_kv_as_f64(kv, &f) && f == 0))
            continue; /* 0 is what a config without the key means */
        for (const char *at = row->hf; *at;) {
            size_t len = strcspn(at, "|");
            lb_str name = lb_arena_str(b->perm, (lb_str){at, len});
            lb_json *v = NULL;
            LB_TRY(lb_back_value(b, kv, row->scale, &v));
            b->oom |= !name.ptr;
            if (name.ptr)
                lb_back_set(b, rope, name.ptr, v);
            at += len + (at[len] == '|');
        }
    }
    return LB_OK;
}

static bool all_ones(const float *v, u64 n) {
    for (u64 i = 0; i < n; i++)
        if (v[i] != 1)
            return false;
    return true;
}

/* A number as a config writes it: 8.0 for a factor, 8192 for a length. */
static lb_json *length_json(lb_back *b, double v) {
    return v == rint(v) && v < 1e15 ? lb_json_new_u64(b->perm, (u64)v)
                                    : lb_json_new_f64(b->perm, v);
}

static lb_status llama3(lb_back *b, lb_json *rope, double theta) {
    lb_rope_llama3 p = {.theta = theta};
    if (b->in->n_rope_freqs != b->rope_dims / 2)
        return lb_fail(b->err, LB_E_FORMAT, "rope_freqs.weight has %llu values, a head has %llu",
                       (unsigned long long)b->in->n_rope_freqs,
                       (unsigned long long)b->rope_dims / 2);
    if (!lb_rope_llama3_solve(&p, b->rope_dims, b->in->rope_freqs))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "rope_freqs.weight follows no llama3 rule: config.json has no form for it");
    lb_back_set(b, rope, "rope_type", lb_json_new_str(b->perm, LB_STR("llama3")));
    lb_back_set(b, rope, "factor", lb_json_new_f64(b->perm, p.factor));
    lb_back_set(b, rope, "low_freq_factor", lb_json_new_f64(b->perm, p.low));
    lb_back_set(b, rope, "high_freq_factor", lb_json_new_f64(b->perm, p.high));
    lb_back_set(b, rope, "original_max_position_embeddings", length_json(b, p.orig));
    return LB_OK;
}

/* The first values 1, the rest endless. */
static lb_status rope_share(lb_back *b, lb_json *rope) {
    u64 n = 0;
    if (b->in->n_rope_freqs != b->hp.head_dim / 2)
        return lb_fail(
            b->err, LB_E_FORMAT, "rope_freqs.weight has %llu values, half a head has %llu",
            (unsigned long long)b->in->n_rope_freqs, (unsigned long long)b->hp.head_dim / 2);
    while (n < b->in->n_rope_freqs && b->in->rope_freqs[n] == 1)
        n++;
    for (u64 i = n; i < b->in->n_rope_freqs; i++)
        if (!(b->in->rope_freqs[i] >= 1e30f))
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "rope_freqs.weight does not rotate the first values of a head and "
                           "leave the rest: config.json has no form for it");
    lb_back_set(b, rope, "rope_type", lb_json_new_str(b->perm, LB_STR("proportional")));
    lb_back_set(b, rope, "partial_rotary_factor", share_of(b, 2 * n));
    return LB_OK;
}

static lb_json *factor_list(lb_back *b, const float *values) {
    lb_json *list = lb_json_new_array(b->perm);
    for (u64 i = 0; i < b->in->n_rope_long && !b->oom; i++)
        b->oom |= !lb_json_push(list, lb_arch_json_f32(b->perm, values[i]));
    return list;
}

/* Only the members that transformers 4 takes, which counts them. */
static lb_status longrope(lb_back *b, lb_json *rope) {
    u64 orig = b->hp.n_ctx;
    double v = 1;
    if (!(b->arch->flags & LB_ARCH_LONGROPE))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF: factors of longrope have no form in config.json of '%s'",
                       b->arch->family);
    if (b->in->n_rope_long != b->rope_dims / 2)
        return lb_fail(
            b->err, LB_E_FORMAT, "rope_factors_long.weight has %llu values, half a head has %llu",
            (unsigned long long)b->in->n_rope_long, (unsigned long long)b->rope_dims / 2);
    lb_kv_as_u64(lb_back_find(b, "rope.scaling.original_context_length"), &orig);
    const lb_gguf_kv *kv = lb_back_find(b, "rope.scaling.attn_factor");
    if (kv && !(lb_kv_as_f64(kv, &v) && fabs(v) <= (double)FLT_MAX))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is not a number",
                       LB_FMT(kv->key));
    lb_back_set(b, rope, "type", lb_json_new_str(b->perm, LB_STR("longrope")));
    lb_back_set(b, rope, "long_factor", factor_list(b, b->in->rope_long));
    lb_back_set(b, rope, "short_factor", factor_list(b, b->in->rope_short));
    bool own = lb_arch_has_field(b->arch, "original_max_position_embeddings");
    lb_back_set(b, own ? b->config : rope, "original_max_position_embeddings",
                lb_json_new_u64(b->perm, orig));
    if (b->arch->flags & LB_ARCH_MSCALE) {
        lb_back_set(b, rope, "long_mscale", lb_arch_json_f32(b->perm, (float)v));
        lb_back_set(b, rope, "short_mscale", lb_arch_json_f32(b->perm, (float)v));
    } else if (orig > 1 && (float)v != (float)lb_rope_long_mscale(
                                           (double)b->hp.n_ctx / (double)orig, (double)orig)) {
        lb_back_set(b, rope, "attention_factor", lb_arch_json_f32(b->perm, (float)v));
        lb_back_notice(
            b,
            "longrope's attention factor %g is not the one that the lengths give: mlx-lm "
            "does not read it",
            v);
    }
    return LB_OK;
}

/* A base that an alpha has stretched, or none: such a model has the plain rule. */
static void ntk_alpha(lb_back *b, lb_json *rope, double scaled) {
    double alpha;
    bool has_row = false;
    for (u32 i = 0; i < b->arch->n_kv; i++)
        has_row |= b->arch->kv[i].op == LB_KV_NTK_ALPHA;
    if (!has_row || !lb_back_find(b, "rope.scaling.original_context_length"))
        return;
    if (!lb_rope_ntk_solve((float)scaled, 10000, b->rope_dims, &alpha)) {
        lb_back_notice(b, "the rope base %g follows no alpha: it is written as it is", scaled);
        return;
    }
    lb_back_set(b, b->config, "rope_theta", lb_json_new_f64(b->perm, 10000));
    lb_back_set(b, rope, "rope_type", lb_json_new_str(b->perm, LB_STR("dynamic")));
    lb_back_set(b, rope, "type", lb_json_new_str(b->perm, LB_STR("dynamic")));
    lb_back_set(b, rope, "alpha", lb_json_new_f64(b->perm, alpha));
    lb_back_set(b, rope, "factor", lb_json_new_f64(b->perm, 1));
}

/* Fills `rope` with a scaling rule; leaves it empty when there is none. */
static lb_status read_scaling(lb_back *b, lb_json *rope) {
    lb_str type =
        LB_STR("linear"); /* the loader's default, without effect unless there is a factor */
    double factor = 0, theta = 10000, attn = 1;
    if (b->in->rope_long)
        return longrope(b, rope);
    if (b->in->rope_freqs && (b->arch->flags & LB_ARCH_ROPE_SHARE))
        return rope_share(b, rope);
    if (!lb_kv_as_f64(lb_back_find(b, "rope.scaling.factor"), &factor))
        lb_kv_as_f64(lb_back_find(b, "rope.scale_linear"), &factor);
    lb_kv_as_f64(lb_back_find(b, "rope.freq_base"), &theta);
    lb_kv_as_str(lb_back_find(b, "rope.scaling.type"), &type);
    bool is_yarn = lb_str_eq_c(type, "yarn"), is_linear = lb_str_eq_c(type, "linear");
    bool scaled = factor > 0 && (is_linear || is_yarn) && (factor != 1 || (is_yarn && b->rope->n));
    if (!is_yarn && !is_linear && !lb_str_eq_c(type, "none"))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: rope scaling '%.*s' is not supported for '%s'",
                       LB_FMT(lb_str_sub(type, 0, 40)), b->arch->family);
    if (lb_kv_as_f64(lb_back_find(b, "rope.scaling.attn_factor"), &attn) && attn != 1)
        lb_back_notice(b, "rope.scaling.attn_factor %g has no place in config.json", attn);
    if (b->in->rope_freqs && !all_ones(b->in->rope_freqs, b->in->n_rope_freqs)) {
        if (scaled)
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "GGUF: rope factors and rope scaling together have no form in "
                           "config.json");
        return llama3(b, rope, theta);
    }
    if (!is_yarn && !is_linear)
        ntk_alpha(b, rope, theta);
    if (!scaled)
        return LB_OK;
    lb_back_set(b, rope, "rope_type", lb_json_new_str(b->perm, type));
    lb_back_set(b, rope, "type",
                lb_json_new_str(b->perm, type)); /* what transformers before 4.43 reads */
    lb_back_set(b, rope, "factor", lb_arch_json_f32(b->perm, (float)factor));
    LB_TRY(scaling_rows(b, rope));
    return is_yarn ? yarn(b, rope) : LB_OK;
}

/* What rows say of yarn. */
static lb_status add_rope_rows(lb_back *b, lb_json *scaling) {
    lb_str type;
    if (!b->rope->n)
        return LB_OK;
    if (!lb_json_as_str(lb_json_get(scaling, "rope_type"), &type) || !lb_str_eq_c(type, "yarn"))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: no yarn: config.json of '%s' has no form for that",
                       b->arch->family);
    for (const lb_json *m = b->rope->first; m; m = m->next) {
        lb_str key = lb_arena_str(b->perm, m->key);
        if (!key.ptr)
            return b->oom = true, LB_OK;
        lb_back_set(b, scaling, key.ptr, lb_json_copy(b->perm, m));
    }
    return LB_OK;
}

static bool has_sections(const lb_arch *a) {
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].op == LB_KV_SECTIONS)
            return true;
    return false;
}

/* Pairs that rotate by time, height and width; for text all three are the place. */
static lb_status take_sections(lb_back *b, lb_json *rope) {
    const lb_gguf_kv *kv = lb_back_find(b, "rope.dimension_sections");
    u64 v = 0;
    if (!kv || !has_sections(b->arch))
        return LB_OK;
    lb_json *list = lb_json_new_array(b->perm);
    b->oom |= !list;
    if (kv->type != LB_GGUF_ARRAY || kv->n < 3)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is no list of sections",
                       LB_FMT(kv->key));
    for (u64 i = 0; i < kv->n && !b->oom; i++) {
        if (!lb_kv_elem_u64(kv, i, &v) || (i > 2 && v))
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "GGUF metadata: '%.*s' has no form in config.json", LB_FMT(kv->key));
        b->oom |= i < 3 && !lb_json_push(list, lb_json_new_u64(b->perm, v));
    }
    lb_back_set(b, rope, "mrope_section", list);
    lb_back_set(b, rope, "mrope_interleaved", lb_json_new_bool(b->perm, true));
    return LB_OK;
}

lb_status lb_back_rope(lb_back *b) {
    if (!b->arch->theta)
        return LB_OK;
    lb_json *scaling = lb_json_new_object(b->perm), *full, *both;
    if (!scaling)
        return b->oom = true, LB_OK;
    LB_TRY(read_scaling(b, scaling));
    LB_TRY(add_rope_rows(b, scaling));
    if (scaling->n)
        lb_back_set(b, b->config, "rope_scaling", scaling);
    full = lb_json_copy(b->perm, scaling);
    if (full && !lb_json_get(full, "rope_type"))
        lb_back_set(b, full, "rope_type",
                    scaling->n ? lb_json_copy(b->perm, lb_json_get(scaling, "type"))
                               : lb_json_new_str(b->perm, LB_STR("default")));
    lb_json_remove(full, "type");
    static const char *const mirrored[] = {"rope_theta", "partial_rotary_factor",
                                           "original_max_position_embeddings"};
    for (size_t i = 0; i < LB_LEN(mirrored); i++) {
        const lb_json *v = lb_json_get(b->config, mirrored[i]);
        if (v && (i < 2 || b->in->rope_long))
            lb_back_set(b, full, mirrored[i], lb_json_copy(b->perm, v));
    }
    LB_TRY(take_sections(b, full));
    if (!(b->arch->flags & LB_ARCH_ROPE_BY_LAYER)) {
        lb_back_set(b, b->config, "rope_parameters", full);
        return LB_OK;
    }
    both = lb_json_new_object(b->perm);
    lb_json *local = lb_json_new_object(b->perm);
    const lb_json *theta = lb_json_get(b->config, "rope_local_base_freq");
    if (!b->arch->local_theta && !lb_back_find(b, "rope.freq_base_swa"))
        theta = lb_json_get(b->config, "rope_theta");
    lb_back_set(b, local, "rope_type", lb_json_new_str(b->perm, LB_STR("default")));
    lb_back_set(b, local, "rope_theta", lb_json_copy(b->perm, theta));
    if (!b->arch->local_theta)
        lb_json_remove(b->config, "rope_local_base_freq");
    lb_back_set(b, both, "full_attention", full);
    lb_back_set(b, both, "sliding_attention", local);
    lb_back_set(b, b->config, "rope_parameters", both);
    if (b->arch->flags & LB_ARCH_LAYER_SIZES) { /* the class and mlx-lm know no other form */
        lb_json_remove(b->config, "rope_theta");
        lb_json_remove(b->config, "rope_local_base_freq");
        lb_json_remove(b->config, "rope_scaling");
    }
    return LB_OK;
}
