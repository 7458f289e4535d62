/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_recipe.c: modules of an MLX folder through mlx-lm's rules.
 *
 * A rule of mlx-lm is a function of a module's path. Its order of questions counts: what is no
 * module and what does not divide into the default's groups is out before any rule is asked. */
#include "quant/mlx_recipe.h"
#include "arch/arch_mlx.h"
#include <stdlib.h>

/* ---- names ---- */

static const struct named {
    const char *name;
    lb_enc_kind kind; /* PLAIN: `dtype` */
    u32 bits, high_bits;
    lb_dtype dtype;
} named[] = {
    {"mlx-q1", LB_ENC_MLX_AFFINE, 1, 0, LB_F32},
    {"mlx-q2", LB_ENC_MLX_AFFINE, 2, 0, LB_F32},
    {"mlx-q3", LB_ENC_MLX_AFFINE, 3, 0, LB_F32},
    {"mlx-q4", LB_ENC_MLX_AFFINE, 4, 0, LB_F32},
    {"mlx-q5", LB_ENC_MLX_AFFINE, 5, 0, LB_F32},
    {"mlx-q6", LB_ENC_MLX_AFFINE, 6, 0, LB_F32},
    {"mlx-q8", LB_ENC_MLX_AFFINE, 8, 0, LB_F32},
    {"mlx-mxfp4", LB_ENC_MLX_MXFP4, 4, 0, LB_F32},
    {"mlx-mxfp8", LB_ENC_MLX_MXFP8, 8, 0, LB_F32},
    {"mlx-nvfp4", LB_ENC_MLX_NVFP4, 4, 0, LB_F32},
    {"mlx-mixed_2_6", LB_ENC_MLX_AFFINE, 2, 6, LB_F32},
    {"mlx-mixed_3_4", LB_ENC_MLX_AFFINE, 3, 4, LB_F32},
    {"mlx-mixed_3_6", LB_ENC_MLX_AFFINE, 3, 6, LB_F32},
    {"mlx-mixed_4_6", LB_ENC_MLX_AFFINE, 4, 6, LB_F32},
    {"f32", LB_ENC_PLAIN, 0, 0, LB_F32},
    {"f16", LB_ENC_PLAIN, 0, 0, LB_F16},
    {"bf16", LB_ENC_PLAIN, 0, 0, LB_BF16},
};

static bool is_recipe(const struct named *t) {
    return t->kind != LB_ENC_PLAIN;
}

static bool is_type(const struct named *t) {
    return t->high_bits == 0;
}

const char *lb_mlx_type_at(u32 i) {
    return i < LB_LEN(named) && is_recipe(&named[i]) ? named[i].name : NULL;
}

static lb_status find(lb_str name, bool (*takes)(const struct named *), const char *what,
                      const struct named **out, lb_err *err) {
    char list[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < LB_LEN(named); i++) {
        const char *one = named[i].name;
        if (!takes(&named[i]))
            continue;
        if (lb_str_eq_c(name, one)) {
            *out = &named[i];
            return LB_OK;
        }
        LB_ASSERT(n + strlen(one) + 2 <= sizeof list);
        if (n)
            list[n++] = ' ';
        memcpy(list + n, one, strlen(one) + 1);
        n += strlen(one);
    }
    return lb_fail(err, LB_E_USAGE, "'%.*s' is no %s of MLX: choose one of %s",
                   (int)LB_MIN(name.len, (size_t)64), name.ptr ? name.ptr : "", what, list);
}

lb_status lb_mlx_opts_find(lb_str name, u32 group, lb_mlx_opts *out, lb_err *err) {
    const struct named *t = NULL;
    LB_TRY(find(name, is_recipe, "type or recipe", &t, err));
    lb_enc enc = lb_mlx_enc_default(t->kind);
    const u32 preset = enc.group_size;
    const bool mixed = t->high_bits != 0;
    if (group)
        enc.group_size = group;
    if (!mixed)
        enc.bits = t->bits;
    if (!lb_mlx_enc_exists(&enc))
        return lb_fail(err, LB_E_USAGE, "%s has no groups of %u: %s", t->name, group,
                       t->kind == LB_ENC_MLX_AFFINE ? "choose 32, 64 or 128"
                       : preset == 16               ? "they have 16"
                                                    : "they have 32");
    out->enc = enc;
    out->low_bits = mixed ? t->bits : 0;
    out->high_bits = t->high_bits;
    out->group = group;
    return LB_OK;
}

lb_status lb_mlx_type_find(lb_str name, u32 *out, lb_err *err) {
    const struct named *t = NULL;
    LB_TRY(find(name, is_type, "type", &t, err));
    *out = (u32)(t - named);
    return LB_OK;
}

/* ---- rules ---- */

typedef struct chooser {
    const lb_mlx_job *job;
    u64 layer_at; /* the place of a layer's number in paths, counted in components */
} chooser;

static u64 n_cols(const lb_mlx_tensor *t) {
    return t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 0;
}

static bool is_whole(const lb_mlx_tensor *t, const lb_enc *enc) {
    return n_cols(t) % enc->group_size == 0;
}

static bool has(lb_str path, const char *text) {
    size_t at;
    return lb_str_find(path, lb_str_c(text), &at);
}

/* Component i of a path; false: it has not so many. */
static bool component(lb_str path, u64 i, lb_str *out) {
    size_t from = 0, dot;
    for (;; i--) {
        *out = lb_str_sub(path, from, path.len);
        const bool more = lb_str_find(*out, LB_STR("."), &dot);
        if (more)
            *out = lb_str_sub(*out, 0, dot);
        if (i == 0)
            return true;
        if (!more)
            return false;
        from += dot + 1;
    }
}

/* mixed_quant_predicate_builder looks for the number in the first path with "down_proj". (Towers
 * beside the language model, which mlx-lm has dropped by then, number their own layers.) */
static lb_status look_at_layers(chooser *c, lb_err *err) {
    for (u64 i = 0; i < c->job->n; i++) {
        const lb_mlx_tensor *t = &c->job->tensors[i];
        lb_str path, part;
        u64 v, at = 0;
        if (!has(t->name, "down_proj") ||
            !lb_arch_mlx_module(c->job->arch, c->job->hp, t->name, t->shape.rank, &path))
            continue;
        while (component(path, at, &part) && !lb_str_to_u64(part, &v))
            at++;
        c->layer_at = at;
        return LB_OK;
    }
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "the model has no tensor with 'down_proj' in its name: mlx-lm's mixed recipes "
                   "go by that name; choose another type, and overrides");
}

/* The first and the last eighth of the layers, and every third between. */
static bool is_high(const chooser *c, lb_str path) {
    const u64 n = c->job->hp->n_layers;
    u64 layer = 0;
    lb_str part;
    if (has(path, "lm_head"))
        return true;
    if (!has(path, "v_proj") && !has(path, "v_a_proj") && !has(path, "v_b_proj") &&
        !has(path, "down_proj"))
        return false;
    if (component(path, c->layer_at, &part) && !lb_str_to_u64(part, &layer))
        layer = 0;
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static void by_recipe(const chooser *c, lb_mlx_choice *out) {
    const lb_mlx_opts *o = c->job->opts;
    out->enc.bits = is_high(c, out->path) ? o->high_bits : o->low_bits;
    out->why = LB_MLX_WHY_RECIPE;
    out->said = o->group ? LB_MLX_SAID_ALL : LB_MLX_SAID_NO_GROUP;
    out->has_entry = true;
}

static lb_status by_model(const lb_mlx_tensor *t, lb_mlx_choice *out, lb_err *err) {
    out->enc = (lb_enc){.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = 64};
    out->why = LB_MLX_WHY_MODEL;
    out->said = LB_MLX_SAID_NO_MODE;
    out->has_entry = true;
    if (is_whole(t, &out->enc))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "tensor '%.*s': rows of %llu are no multiple of 64, but mlx-lm's class of the "
                   "model has 8 bits in groups of 64 for it: give it a type by an override",
                   LB_FMT(t->name), (unsigned long long)n_cols(t));
}

static bool same_enc(const lb_enc *a, const lb_enc *b) {
    return a->kind == b->kind && a->bits == b->bits && a->group_size == b->group_size;
}

void lb_mlx_choice_give(const lb_mlx_opts *opts, const lb_enc *enc, lb_mlx_why why,
                        lb_mlx_choice *choice) {
    choice->enc = *enc;
    choice->why = why;
    choice->said = LB_MLX_SAID_ALL;
    choice->has_entry = !same_enc(enc, &opts->enc);
}

static void by_override(const lb_mlx_opts *o, const lb_mlx_tensor *t, const struct named *type,
                        lb_mlx_choice *out) {
    if (type->kind == LB_ENC_PLAIN) {
        out->dtype = type->dtype;
        out->why = LB_MLX_WHY_OVERRIDE;
        return;
    }
    lb_enc enc = lb_mlx_enc_default(type->kind), asked = enc;
    asked.group_size = o->group;
    if (lb_mlx_enc_exists(&asked))
        enc = asked;
    enc.bits = type->bits;
    if (is_whole(t, &enc))
        lb_mlx_choice_give(o, &enc, LB_MLX_WHY_OVERRIDE, out);
    else
        out->why = LB_MLX_WHY_ROWS;
}

static lb_status choose(const chooser *c, const lb_mlx_tensor *t, lb_mlx_choice *out, lb_err *err) {
    const lb_mlx_job *job = c->job;
    const lb_mlx_opts *o = job->opts;
    const lb_override *v = NULL;
    *out = (lb_mlx_choice){.dtype = t->stored, .path = LB_STR("")};
    if (!lb_arch_mlx_module(job->arch, job->hp, t->name, t->shape.rank, &out->path))
        return LB_OK;
    if (lb_dtype_get(t->stored)->cls != LB_CLASS_FLOAT) {
        out->why = LB_MLX_WHY_CODES;
        return LB_OK;
    }
    LB_TRY(lb_override_find(o->overrides, t->name, &v, err));
    if (v) {
        by_override(o, t, &named[v->type], out);
        return LB_OK;
    }
    out->why = LB_MLX_WHY_ROWS;
    if (!is_whole(t, &o->enc))
        return LB_OK;
    out->enc = o->enc;
    out->why = LB_MLX_WHY_DEFAULT;
    if (o->pure)
        return LB_OK;
    if (o->high_bits)
        by_recipe(c, out);
    else if (lb_arch_mlx_is_8bit(job->arch, out->path))
        return by_model(t, out, err);
    return LB_OK;
}

lb_status lb_mlx_choose(const lb_mlx_job *job, lb_mlx_choice *out, lb_err *err) {
    chooser c = {.job = job};
    if (job->opts->high_bits)
        LB_TRY(look_at_layers(&c, err));
    for (u64 i = 0; i < job->n; i++)
        LB_TRY(choose(&c, &job->tensors[i], &out[i], err));
    return LB_OK;
}

lb_status lb_mlx_check_overrides(const lb_mlx_job *job, lb_err *err) {
    const lb_overrides *o = job->opts->overrides;
    for (const lb_override *v = o ? o->first : NULL; v; v = v->next) {
        bool found = false;
        lb_str path, like = LB_STR("");
        for (u64 i = 0; i < job->n && !found; i++) {
            const lb_mlx_tensor *t = &job->tensors[i];
            if (!lb_arch_mlx_module(job->arch, job->hp, t->name, t->shape.rank, &path))
                continue;
            like = t->name;
            LB_TRY(lb_override_matches(o, v, t->name, &found, err));
        }
        if (!found)
            return lb_fail(err, LB_E_USAGE,
                           "override \"%.*s\": the pattern is in the name of no tensor that can be "
                           "quantized, as '%.*s'",
                           LB_FMT(v->pattern), LB_FMT(like));
    }
    return LB_OK;
}

/* ---- the config ---- */

typedef struct entry {
    const lb_arch *arch;
    const lb_mlx_choice *choice;
} entry;

static int by_path(const void *x, const void *y) {
    const entry *a = x, *b = y;
    return lb_arch_mlx_cmp(a->arch, a->choice->path, b->choice->path);
}

lb_status lb_mlx_quantization(const lb_mlx_job *job, const lb_mlx_choice *choices,
                              const lb_json *kept, lb_arena *perm, lb_json **out, lb_err *err) {
    entry *list = lb_arena_new(perm, entry, job->n);
    u64 n = 0;
    *out =
        kept ? lb_json_copy(perm, kept) : lb_mlx_enc_json(&job->opts->enc, LB_MLX_SAID_ALL, perm);
    bool ok = *out && (list || !job->n);
    for (u64 i = 0; i < job->n && ok; i++)
        if (choices[i].enc.kind != LB_ENC_PLAIN && (choices[i].has_entry || kept))
            list[n++] = (entry){job->arch, &choices[i]};
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_path);
    for (u64 i = 0; i < n && ok; i++) {
        const lb_mlx_choice *ch = list[i].choice;
        const lb_str path = lb_arena_str(perm, ch->path);
        ok = path.ptr &&
             lb_json_set(perm, *out, path.ptr, lb_mlx_enc_json(&ch->enc, ch->said, perm));
    }
    return ok ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for config.json");
}
